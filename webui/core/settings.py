"""The program's settings: declared as data, kept in config.json, read as immutable snapshots.

A `Setting` says what a value may be; `settings_table.SETTINGS` lists them all. Everything that runs
a job reads one `Settings` snapshot, so a change made meanwhile can't split a job in two. Only
`SettingsStore` writes, and a crash at any moment leaves either the old file or the new one.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from webui.core.errors import InvalidRequest, Refused, WebuiError, nearest
from webui.core.files import write_atomic
from webui.core.values import KINDS, ParamSpec

log = logging.getLogger(__name__)

Listener = Callable[[Any, Any], None]

LARGEST_WHOLE: Final = 2**53  # beyond it a JSON number is no longer exact in a browser
LONGEST_TEXT: Final = 100_000


@dataclass(frozen=True)
class Section:
    """A page of the Settings tab. category: the heading it stands under, None for the last group.

    Two sections may share an id (A1111's "ui" does), so `title` is what tells them apart.
    """

    id: str | None
    title: str
    category: str | None


@dataclass(frozen=True)
class Setting:
    """One setting: its type is the default's type; None as default means text or nothing.

    kind: one of `webui.core.values.KINDS`, how the page shows it; derived from the other fields when left empty.
    ge, le, step: range of a number and the slider's step.
    choices: allowed values, or the name of a list that only the running program knows
        ("checkpoints", "samplers", ...), which whoever owns that list checks.
    infotext: label under which a picture's text records a changed value, if any.
    restrict_api: the HTTP API may not change it.
    reaches: how a text gets to the file system, and so what judges it; "" when it doesn't.
        "folder", "file": where to write or read. The owner alone chooses; the API may not change it.
        "name": the name of a file or folder that is made: cleaned by `safe_name`, kept below its folder by `inside`.
        "listed": the name of something that lies there: looked up in a list, never made a path.
    after: what makes a change take effect, where that isn't the next job or the next click: loading the page anew
        ("reload") or starting Easel anew ("restart").
    """

    key: str
    default: Any
    label: str
    kind: str = ""
    ge: float | None = None
    le: float | None = None
    step: float | None = None
    choices: tuple[str, ...] | str = ()
    infotext: str | None = None
    restrict_api: bool = False
    reaches: Literal["", "folder", "file", "name", "listed"] = ""
    help: str = ""
    after: Literal["", "reload", "restart"] = ""
    section: Section = Section(None, "Hidden options", None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.spec.shown_as)
        assert self.kind in KINDS, f"{self.key}: no such kind {self.kind!r}"
        object.__setattr__(self, "default", self.check(self.default))

    @property
    def spec(self) -> ParamSpec:
        """The setting as a parameter, for what shows and reads both alike."""
        slider = (self.ge, self.le, self.step)
        return ParamSpec(
            path=(self.key,),
            annotation=_annotation(self.default),
            default=self.default,
            label=self.label,
            infotext=self.infotext,
            slider=slider if None not in slider else None,  # type: ignore[arg-type]
            choices=self.choices or None,
            help=self.help or None,
            kind=self.kind,
        )

    def check(self, value: object) -> Any:
        """The value in this setting's own type (7 becomes 7.0 for a float, a list becomes a tuple).

        Raises: InvalidRequest naming the key, the value and what is allowed.
        """
        if isinstance(self.default, bool):
            return self._bool(value)
        if isinstance(self.default, int | float):
            return self._number(value)
        if isinstance(self.default, list | tuple):
            return self._texts(value)
        if value is None and self.default is None:
            return None
        return self._text(value)

    def allowed(self) -> str:
        """What a value may be, as the end of a sentence: 'a whole number from 1 to 12'."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, int | float):
            noun = "a whole number" if isinstance(self.default, int) else "a number"
            if self.ge is not None and self.le is not None:
                return f"{noun} from {self.ge:g} to {self.le:g}"
            return f"{noun}, at least {self.ge:g}" if self.ge is not None else noun
        listed = ", ".join(json.dumps(choice) for choice in self.choices) if isinstance(self.choices, tuple) else ""
        if isinstance(self.default, list | tuple):
            return f"a list with any of {listed}" if listed else "a list of texts"
        return f"one of {listed}" if listed else "a text" + (" or null" if self.default is None else "")

    def _refusal(self, value: object) -> InvalidRequest:
        return InvalidRequest(f'Setting "{self.key}" can\'t be {shown(value)}; it must be {self.allowed()}.')

    def _bool(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise self._refusal(value)
        return value

    def _number(self, value: object) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refusal(value)
        if not -LARGEST_WHOLE <= value <= LARGEST_WHOLE:  # false for NaN too
            raise self._refusal(value)
        if isinstance(self.default, int) and value != int(value):
            raise self._refusal(value)
        if (self.ge is not None and value < self.ge) or (self.le is not None and value > self.le):
            raise self._refusal(value)
        return int(value) if isinstance(self.default, int) else float(value)

    def _texts(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or len(value) > LONGEST_TEXT:
            raise self._refusal(value)
        return tuple(self._text(item) for item in value)

    def _text(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > LONGEST_TEXT:
            raise self._refusal(value)
        if any("\ud800" <= letter <= "\udfff" for letter in value):  # no file could hold it
            raise self._refusal(value)
        if isinstance(self.choices, tuple) and self.choices and value not in self.choices:
            raise self._refusal(value)
        return value


def _annotation(default: object) -> Any:
    """The type that a setting's default stands for."""
    if isinstance(default, list | tuple):
        return tuple[str, ...]
    return str | None if default is None else type(default)


def shown(value: object, longest: int = 80) -> str:
    """The value as JSON writes it, cut short, for a sentence; non-finite numbers included."""
    try:
        text = json.dumps(value) if not isinstance(value, int) or abs(value) < 10**30 else "a very large number"
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= longest else text[: longest - 1] + "…"


class Settings(Mapping[str, Any]):
    """An immutable snapshot: every setting's key with a value of its declared type; lists are tuples."""

    def __init__(self, table: Mapping[str, Setting], values: Mapping[str, Any] | None = None):
        """values: already checked ones; what they lack has its default."""
        self._table = table
        self._values = {key: setting.default for key, setting in table.items()} | dict(values or {})

    @classmethod
    def defaults(cls, table: Iterable[Setting]) -> Settings:
        """Every setting at its default, without a file."""
        return cls(by_key(table))

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        changed = {key: value for key, value in self._values.items() if value != self._table[key].default}
        return f"Settings({changed})"

    def replace(self, /, **changes: Any) -> Settings:
        """A snapshot with these values. Raises: InvalidRequest naming the key and the value."""
        checked = {key: self.setting(key).check(value) for key, value in changes.items()}
        return Settings(self._table, self._values | checked)

    def setting(self, key: str) -> Setting:
        """The declaration behind a key. Raises: InvalidRequest with the nearest key for an unknown one."""
        try:
            return self._table[key]
        except KeyError:
            raise InvalidRequest(f"There is no setting {shown(key)}{nearest(key, self._table)}.") from None

    @property
    def table(self) -> Mapping[str, Setting]:
        """Every setting's declaration by key, in the order of the Settings tab."""
        return self._table


class SettingsStore:
    """The settings on disk and the one place that changes them. Safe to use from several threads.

    problems: sentences for the user about what was found wrong in the file at the start.
    Keys that no setting declares (of extensions that are absent now) are kept and written back.
    """

    def __init__(self, path: Path, table: Sequence[Setting], frozen: Iterable[str] = ()):
        """Read `path`. A file that can't be read is copied to `<name>.broken-<n>` and the last good
        copy, `<name>.last-good`, is used and restored; a single bad value falls back to its default.

        frozen: keys that may not change (--freeze-settings and relatives).
        """
        self.path = path
        self.problems: list[str] = []
        self._last_good = path.with_name(path.name + ".last-good")
        self._frozen = frozenset(frozen)
        self._lock = threading.Lock()
        self._listeners: list[tuple[str, Listener]] = []
        self._snapshot = Settings.defaults(table)
        self._written: dict[str, Any] = {}  # what the file holds: changed settings and unknown keys
        self._load()

    def declare(self, more: Sequence[Setting]) -> None:
        """Add settings that are known only now (of extensions), with the values that the file holds for them."""
        with self._lock:
            table = by_key([*self._snapshot.table.values(), *more])
            found = {setting.key: self._written[setting.key] for setting in more if setting.key in self._written}
            self._snapshot = Settings(table, dict(self._snapshot))
            self._written = {key: value for key, value in self._written.items() if key not in found}
            self._take(found)

    @property
    def frozen(self) -> frozenset[str]:
        """The keys that may not change."""
        return self._frozen

    def snapshot(self) -> Settings:
        """The settings as they are now; later changes don't touch it."""
        return self._snapshot

    def is_chosen(self, key: str) -> bool:
        """Whether the file holds a value for the setting, be it the default."""
        return key in self._written

    def update(self, changes: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Check every change, save, then tell the listeners; returns {key: (old, new)} of what differs.

        Raises: InvalidRequest (unknown key, bad value), Refused (frozen key), WebuiError (the file
        can't be written). After any of them nothing has changed.
        """
        with self._lock:
            old = self._snapshot
            new = old.replace(**changes)
            changed = {key: (old[key], new[key]) for key in changes if old[key] != new[key]}
            for key in changed:
                if key in self._frozen:
                    raise Refused(f'Setting "{key}" is frozen by the command line (--freeze-settings).')
            written = self._written | {key: new[key] for key in changes}
            if written != self._written:
                self._save(written)
                self._written = written
            self._snapshot = new
            listeners = tuple(self._listeners)
        for key, (before, after) in changed.items():
            for wanted, listener in listeners:
                if wanted == key:
                    try:
                        listener(before, after)
                    except Exception:  # the change is saved; one listener's fault must not hide it
                        log.exception('A listener failed after setting "%s" changed.', key)
        return changed

    def on_change(self, key: str, listener: Listener) -> None:
        """Call `listener(old, new)` after each saved change of `key`, in the thread that changed it."""
        self._snapshot.setting(key)
        with self._lock:
            self._listeners.append((key, listener))

    def _save(self, values: Mapping[str, Any]) -> None:
        data = json.dumps(values, indent=4, ensure_ascii=False).encode()
        try:
            write_atomic(self.path, data)
            write_atomic(self._last_good, data)
        except OSError as error:
            raise WebuiError(f"The settings can't be saved to {self.path}: {error.strerror}.") from error

    def _load(self) -> None:
        self._take(self._read())

    def _take(self, values: Mapping[str, Any]) -> None:
        """Make values of the file the current ones, bad ones left out and reported, unknown ones kept aside."""
        known: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for key, value in values.items():
            if key not in self._snapshot:
                unknown[key] = value
                continue
            try:
                known[key] = self._snapshot.setting(key).check(value)
            except InvalidRequest as error:
                default = shown(self._snapshot[key])
                self.problems.append(f"{self.path.name}: {error} The default, {default}, is used.")
        self._snapshot = self._snapshot.replace(**known)
        self._written = self._written | known | unknown

    def _read(self) -> dict[str, Any]:
        """The file's content, or the last good copy's, or nothing on a first start."""
        try:
            values = read_object(self.path)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            return self._recover(error)
        self._remember()
        return values

    def _recover(self, error: Exception) -> dict[str, Any]:
        found = f"The settings file {self.path} can't be read ({error})."
        try:
            values = read_object(self._last_good)
            used = f"the last good copy, {self._last_good.name}, is used"
        except (OSError, ValueError):
            values, used = {}, "the defaults are used"
        try:
            broken = self._set_aside()
            if values:
                write_atomic(self.path, self._last_good.read_bytes())
            else:
                self.path.unlink()
            self.problems.append(f"{found} It is kept as {broken.name} and {used}.")
        except OSError as failure:
            self.problems.append(f"{found} It can't be moved aside either ({failure.strerror}), and {used}.")
        return values

    def _set_aside(self) -> Path:
        count = 1
        while (broken := self.path.with_name(f"{self.path.name}.broken-{count}")).exists():
            count += 1
        write_atomic(broken, self.path.read_bytes())
        return broken

    def _remember(self) -> None:
        """Keep the file just read as the last good copy (it may have been edited by hand)."""
        data = self.path.read_bytes()
        try:
            if not self._last_good.exists() or self._last_good.read_bytes() != data:
                write_atomic(self._last_good, data)
        except OSError as error:
            self.problems.append(f"No safety copy of the settings could be written: {error}.")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises: OSError, or ValueError for anything but a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  one error type for every unreadable file
    return content


def by_key(table: Iterable[Setting]) -> Mapping[str, Setting]:
    """The table by key. Two settings of one name are a fault of the program."""
    found: dict[str, Setting] = {}
    for setting in table:
        assert setting.key not in found, f"setting {setting.key!r} is declared twice"
        found[setting.key] = setting
    return MappingProxyType(found)


def in_section(section: Section, *settings: Setting) -> tuple[Setting, ...]:
    """The settings, placed in a section of the Settings tab."""
    return tuple(replace(setting, section=section) for setting in settings)


def frozen_keys(
    table: Iterable[Setting], *, everything: bool = False, sections: Iterable[str] = (), keys: Iterable[str] = ()
) -> frozenset[str]:
    """The keys that --freeze-settings, -in-sections (titles or ids) and --freeze-specific-settings name."""
    named, held = set(keys), set(sections)
    return frozenset(
        setting.key
        for setting in table
        if everything or setting.key in named or setting.section.title in held or setting.section.id in held
    )
