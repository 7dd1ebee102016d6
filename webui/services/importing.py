"""Taking over an A1111 install: styles, settings and the page's defaults are copied, models are used where they are.

Nothing of the other install is changed, and what is ours already stays: a second run finds nothing to do. Standard
library only, since launch.py calls this before anything is installed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.core.errors import WebuiError
from webui.core.files import write_atomic
from webui.core.layouts import PLACES, folders_of, is_install, listed_folders
from webui.core.paths import Paths
from webui.core.settings import Settings, read_object, shown
from webui.core.settings_table import SETTINGS
from webui.prompts.styles import StyleStore

FOLDERS: Mapping[str, str] = {
    "--ckpt-dir": "checkpoints",
    "--vae-dir": "vae",
    "--lora-dir": "lora",
    "--lyco-dir": "lora",
    "--hypernetwork-dir": "hypernetworks",
    "--embeddings-dir": "embeddings",
}
"""A1111's flags that name a folder of models -> kind."""

RISKY_FLAGS = (
    "--allow-code",
    "--enable-insecure-extension-access",
    "--disable-safe-unpickle",
    "--share",
    "--listen",
    "--gradio-auth",
    "--api-auth",
    "--cors-allow-origins",
    "--disable-tls-verify",
    "--gradio-allowed-path",
)
"""Flags of the other install that are told and left to the user."""

NOT_TAKEN: Mapping[str, str] = {
    "clean_temp_dir_at_start": "deletes files",
    "disabled_extensions": "about extensions that aren't taken over",
    "disable_all_extensions": "about extensions that aren't taken over",
    "api_enable_requests": "opens the network to API clients",
    "api_forbid_local_requests": "opens the network to API clients",
    "sd_checkpoint_hash": "follows from the checkpoint",
}
"""Settings that are never copied, and why."""

NEVER_COPIED: Mapping[str, str] = {"folder": "a folder to write to", "file": "a file"}
"""Why those aren't copied that name a place of the other install (Setting.reaches)."""

UI_FIELDS = ("value", "minimum", "maximum", "step", "visible")
_ARGUMENTS = re.compile(r"""^\s*(?:export\s+|set\s+)?COMMANDLINE_ARGS\s*=\s*(.*?)\s*$""", re.MULTILINE)


@dataclass
class Report:
    """What was, or would be, taken over. told: lines under their headings."""

    told: dict[str, list[str]] = field(default_factory=dict)

    def add(self, heading: str, line: str) -> None:
        self.told.setdefault(heading, []).append(line)

    def lines(self) -> Iterator[str]:
        for heading, lines in self.told.items():
            yield f"{heading} ({len(lines)}):"
            yield from (f"  {line}" for line in lines)


def import_install(folder: Path, paths: Paths, *, dry_run: bool = False) -> Report:
    """Take over what an install has. dry_run: write nothing.

    Raises: WebuiError for a folder that is no install, or when one of our own files can't be read or written.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir() or not is_install(folder):
        raise WebuiError(f"{folder} doesn't look like an A1111 install: no config.json, styles.csv or models in it.")
    if folder == paths.data:
        raise WebuiError(f"{folder} is Easel's own folder; name the other install's.")
    report = Report()
    flags = _flags_of(folder)
    data = Path(flags.get("--data-dir", [str(folder)])[-1])
    for flag in RISKY_FLAGS:
        if flag in flags:
            report.add("Flags of the other install that you may want to give, or not", flag)
    try:
        _take_folders(folder, data, flags, paths, report, dry_run)
        _take_styles(data, flags, paths, report, dry_run)
        _take_settings(_file(data, flags, "--ui-settings-file", "config.json"), paths, report, dry_run)
        _take_ui_config(_file(data, flags, "--ui-config-file", "ui-config.json"), paths, report, dry_run)
    except OSError as error:
        raise WebuiError(f"{error.filename or paths.data} can't be written: {error.strerror or error}.") from error
    if not report.told:
        report.add("Nothing to do", "everything of it is here already")
    return report


def _flags_of(folder: Path) -> dict[str, list[str]]:
    """The flags in webui-user.sh and .bat -> their values; relative folders start from the install."""
    found: dict[str, list[str]] = {}
    for name in ("webui-user.sh", "webui-user.bat"):
        try:
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in _ARGUMENTS.findall(text):
            bare = line[1:-1] if line[:1] == line[-1:] == '"' else line
            try:
                words = shlex.split(bare, posix=name.endswith(".sh"))
            except ValueError:
                continue
            flag = ""
            for word in words:
                if word.startswith("--"):
                    flag, equals, value = word.partition("=")
                    values = found.setdefault(flag, [])
                    if equals:
                        values.append(value.strip('"'))
                elif flag:
                    found[flag].append(word.strip('"'))
    paths = (*FOLDERS, "--data-dir", "--models-dir", "--styles-file", "--ui-settings-file", "--ui-config-file")
    for flag in paths:
        if flag in found:
            found[flag] = [os.path.abspath(folder / Path(value).expanduser()) for value in found[flag]]
    return {flag: values for flag, values in found.items() if values or flag in RISKY_FLAGS}


def _file(data: Path, flags: Mapping[str, list[str]], flag: str, name: str) -> Path:
    return Path(flags[flag][-1]) if flag in flags else data / name


def _take_folders(
    folder: Path, data: Path, flags: Mapping[str, list[str]], paths: Paths, report: Report, dry_run: bool
) -> None:
    """Add the install, and folders that its flags name, to model-folders.txt."""
    named = [f"{kind}={value}" for flag, kind in FOLDERS.items() for value in flags.get(flag, ())]
    wished = [str(folder), str(data), *flags.get("--models-dir", ()), *named]
    before = listed_folders(paths.model_folders)
    fresh = [
        line
        for line in dict.fromkeys(wished)
        if line not in before and any(folders_of([line], kind) for kind in PLACES)
    ]
    for line in fresh:
        kinds = [kind for kind in PLACES if folders_of([line], kind)]
        report.add("Folders whose models are used where they are", f"{line} ({', '.join(kinds)})")
    if fresh and not dry_run:
        text = paths.model_folders.read_text(encoding="utf-8-sig") if paths.model_folders.exists() else _HEAD
        text += ("" if text.endswith("\n") else "\n") + "".join(f"{line}\n" for line in fresh)
        write_atomic(paths.model_folders, text.encode("utf-8", "surrogateescape"))


_HEAD = """# Folders of other installs (A1111, ComfyUI) whose models Easel lists too, one a line.
# "lora=/some/folder" names a folder with nothing but LoRAs; the kinds are
# checkpoints, vae, lora, hypernetworks, embeddings, upscalers, controlnet. Read when Easel starts.
"""


def _take_styles(data: Path, flags: Mapping[str, list[str]], paths: Paths, report: Report, dry_run: bool) -> None:
    """Add the styles whose names aren't taken to our styles.csv."""
    files = [*map(Path, flags.get("--styles-file", ())), data / "styles*.csv"]
    theirs, ours = StyleStore(files), StyleStore([paths.styles])
    for problem in (*theirs.problems, *ours.problems):
        report.add("Not readable", problem)
    known = {style.name: style for style in ours.all()}
    for style in theirs.all():
        same = known.get(style.name)
        if same is None:
            report.add("Styles", style.name)
            if not dry_run:
                ours.put(style.name, style.prompt, style.negative_prompt)
        elif (same.prompt, same.negative_prompt) != (style.prompt, style.negative_prompt):
            report.add("Styles that stay as they are here", f"{style.name} (another text there)")


def _take_settings(file: Path, paths: Paths, report: Report, dry_run: bool) -> None:
    """Copy settings that are still at their default here; keys that nobody knows are kept as they are."""
    theirs, ours = _object(file, report), _own(paths.config)
    defaults = Settings.defaults(SETTINGS)
    taken: dict[str, Any] = {}
    for key, value in theirs.items():
        if key in ours:
            if ours[key] != value and key in defaults and defaults[key] != _plain(value):
                report.add("Settings that stay as they are here", f"{key} = {shown(ours[key])} (there {shown(value)})")
        elif key not in defaults:
            taken[key] = value
            report.add("Settings unknown here, kept for extensions that know them", f"{key} = {shown(value)}")
        else:
            _take_setting(key, value, defaults, taken, report)
    if taken and not dry_run:
        _write(paths.config, {**ours, **taken})


def _take_setting(key: str, value: Any, defaults: Settings, taken: dict[str, Any], report: Report) -> None:
    try:
        checked = defaults.setting(key).check(value)
    except WebuiError as error:
        report.add("Settings whose value can't be used", str(error))
        return
    if checked == defaults[key]:
        return
    why = NOT_TAKEN.get(key) or NEVER_COPIED.get(defaults.setting(key).reaches)
    if why:
        report.add("Settings not taken over; set them yourself if you want them", f"{key} = {shown(value)} ({why})")
        return
    taken[key] = value
    report.add("Settings", f"{key} = {shown(value)}")


def _take_ui_config(file: Path, paths: Paths, report: Report, dry_run: bool) -> None:
    """Copy the page's defaults that aren't set here."""
    theirs, ours = _object(file, report), _own(paths.ui_config)
    taken = {key: value for key, value in theirs.items() if key not in ours and key.rpartition("/")[2] in UI_FIELDS}
    if taken:
        report.add("Defaults of the page (ui-config.json)", f"{len(taken)} entries")
        if not dry_run:
            _write(paths.ui_config, {**ours, **taken})


def _object(file: Path, report: Report) -> dict[str, Any]:
    """Their file's content, {} without one; a broken one is reported."""
    try:
        return read_object(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        report.add("Not readable", f"{file} ({error})")
        return {}


def _own(file: Path) -> dict[str, Any]:
    """Raises: WebuiError for a file of ours that can't be read: it must not be overwritten."""
    try:
        return read_object(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WebuiError(f"{file} can't be read ({error}); mend or remove it, then import again.") from error


def _write(file: Path, content: Mapping[str, Any]) -> None:
    write_atomic(file, json.dumps(content, indent=4, ensure_ascii=False).encode("utf-8", "replace"))


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
