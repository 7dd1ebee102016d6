"""Styles: named texts around or after prompts, kept in styles.csv files as A1111 writes them."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from webui.core.errors import InvalidRequest, NotFound, WebuiError, nearest
from webui.core.files import write_atomic
from webui.prompts.styles_file import NotStyles, Row, read_rows, set_aside, written_rows

log = logging.getLogger(__name__)

PROMPT = "{prompt}"
MAX_STYLED = 1_000_000

_SPACES = re.compile(r"  +")


@dataclass(frozen=True)
class Style:
    """path: the file it is kept in."""

    name: str
    prompt: str
    negative_prompt: str
    path: Path


class Extracted(NamedTuple):
    """names: styles found in a pair of prompts, in the order in which they were applied."""

    names: tuple[str, ...]
    prompt: str
    negative_prompt: str


def merge_style(style: str, prompt: str) -> str:
    """`prompt` in the place of "{prompt}" in the style, or followed by the style after a comma.

    Raises: InvalidRequest when that becomes absurdly long, as styles that double the prompt soon make it.
    """
    length = len(style) + len(prompt) * max(style.count(PROMPT), 1)
    if length > MAX_STYLED:
        raise InvalidRequest(f"The styles make the prompt {length} characters long; {MAX_STYLED} are the most.")
    if PROMPT in style:
        return style.replace(PROMPT, prompt)
    return ", ".join(part for part in (prompt.strip(), style.strip()) if part)


class StyleStore:
    """The styles of one or more files; every change is saved at once. Safe to use from several threads.

    A file that can't be read is named in `problems` and in the log and never written to; one that isn't there has no
    styles. Before a change the files are read again, so that what was edited meanwhile isn't lost.
    """

    def __init__(self, paths: Sequence[Path]):
        """paths: files, the first for new styles; "*" and "?" in a file's name stand for all that match.

        Of two styles of one name the later file's counts.
        """
        if not paths:
            raise ValueError("need at least one path")
        self._paths = tuple(paths)
        self._lock = threading.Lock()
        self._problems: dict[Path, str] = {}
        self.reload()

    def reload(self) -> None:
        """Read the files again."""
        files: dict[Path, dict[str, Style]] = {}
        problems: dict[Path, str] = {}
        for path in self._paths_found():
            try:
                files[path] = {row.name: Style(*row, path) for row in read_rows(path.read_bytes())}
            except (OSError, NotStyles) as error:
                problems[path] = f"The styles in {path} can't be read: {error}. The file is left as it is."
        for path, problem in problems.items():
            if self._problems.get(path) != problem:
                log.warning("%s", problem)
        self._problems = problems
        self._hold(files)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self._problems.values())

    def all(self) -> tuple[Style, ...]:
        """Every style, in the order of the files."""
        return tuple(self._styles.values())

    def get(self, name: str) -> Style:
        """Raises: NotFound."""
        styles = self._styles
        if name not in styles:
            raise NotFound(f'There is no style "{name}"{nearest(name, styles)}.')
        return styles[name]

    def apply(self, prompt: str, names: Iterable[str]) -> str:
        """A positive prompt with the styles applied one after the other; unknown names are passed over."""
        return _merged(prompt, self.texts(names))

    def apply_negative(self, negative_prompt: str, names: Iterable[str]) -> str:
        """A negative prompt with the styles applied one after the other; unknown names are passed over."""
        return _merged(negative_prompt, self.texts(names, negative=True))

    def missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that are no style's."""
        styles = self._styles
        return tuple(name for name in names if name not in styles)

    def texts(self, names: Iterable[str], *, negative: bool = False) -> tuple[str, ...]:
        """The styles' texts for positive or negative prompts; "" for a missing one."""
        found = (self._styles.get(name) for name in names)
        return tuple("" if style is None else style.negative_prompt if negative else style.prompt for style in found)

    def extract(self, prompt: str, negative_prompt: str) -> Extracted:
        """Take the styles out of a pair of prompts that hold both texts of each, the last applied first."""
        candidates = [style for style in self.all() if style.prompt or style.negative_prompt]
        names: list[str] = []
        spaced = _single_spaced(prompt), _single_spaced(negative_prompt)
        while True:
            for style in candidates:
                without = _without(style.prompt, spaced[0]), _without(style.negative_prompt, spaced[1])
                if without[0] is not None and without[1] is not None:
                    prompt, negative_prompt = without[0], without[1]
                    spaced = _single_spaced(prompt), _single_spaced(negative_prompt)
                    names.insert(0, style.name)
                    candidates.remove(style)
                    break
            else:
                return Extracted(tuple(names), prompt, negative_prompt)

    def put(self, name: str, prompt: str, negative_prompt: str) -> Style:
        """Add a style, or replace the one of that name in its file.

        Raises: InvalidRequest for a name that the file can't hold; WebuiError if the file can't be read; OSError.
        """
        name = name.strip()
        if not name or name.startswith("#"):
            raise InvalidRequest(f'A style can\'t be called "{name}"; choose a name that doesn\'t start with "#".')
        with self._lock:
            self.reload()
            known = self._styles.get(name)
            style = Style(name, prompt, negative_prompt, known.path if known else self._home())
            self._save(style.path, {**self._files.get(style.path, {}), name: style})
        return style

    def delete(self, name: str) -> None:
        """Raises: NotFound; OSError."""
        with self._lock:
            self.reload()
            path = self.get(name).path
            self._save(path, {other: style for other, style in self._files[path].items() if other != name})

    def _paths_found(self) -> list[Path]:
        found = [
            file
            for path in self._paths
            for file in (sorted(path.parent.glob(path.name)) if _is_pattern(path) else [path])
            if file.exists()
        ]
        return list(dict.fromkeys(found))

    def _home(self) -> Path:
        """The file for new styles."""
        return next((path for path in self._paths if not _is_pattern(path)), self._paths[0].with_name("styles.csv"))

    def _hold(self, files: dict[Path, dict[str, Style]]) -> None:
        """files: the styles of each file by name. `_styles` is what counts of them."""
        self._files = files
        self._styles = {name: style for styles in files.values() for name, style in styles.items()}

    def _save(self, path: Path, styles: dict[str, Style]) -> None:
        """Write one file and hold its new content.

        The old content goes to a .bak beside it; of a file that isn't as A1111 or Easel write it, and so may hold more
        than its styles (comments, columns), also to an .original that stays.
        """
        if path in self._problems:
            raise WebuiError(self._problems[path])
        if path.exists():
            before = path.read_bytes()
            if before != written_rows(map(_row, self._files.get(path, {}).values())):
                write_atomic(set_aside(path, before), before)
            write_atomic(path.with_name(path.name + ".bak"), before)
        write_atomic(path, written_rows(map(_row, styles.values())))
        changed = {**self._files, path: styles}
        self._hold({file: changed[file] for file in self._paths_found() if file in changed})


def _merged(prompt: str, styles: Iterable[str]) -> str:
    for style in styles:
        prompt = merge_style(style, prompt)
    return prompt


def _is_pattern(path: Path) -> bool:
    return "*" in path.name or "?" in path.name


def _row(style: Style) -> Row:
    return Row(style.name, style.prompt, style.negative_prompt)


def _single_spaced(text: str) -> str:
    return _SPACES.sub(" ", text.strip())


def _without(style: str, prompt: str) -> str | None:
    """What `merge_style` made `prompt`, single spaced, from; None if it wasn't this style."""
    style = _single_spaced(style)
    before, placeholder, after = style.partition(PROMPT)
    if placeholder:
        fits = prompt.startswith(before) and prompt.endswith(after) and len(prompt) >= len(before) + len(after)
        return prompt[len(before) : len(prompt) - len(after)] if fits else None
    return prompt.removesuffix(style).removesuffix(", ") if prompt.endswith(style) else None
