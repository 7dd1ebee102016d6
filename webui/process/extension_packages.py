"""What extensions need besides the program's own packages. Only the standard library, for launch.py."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = "requirements.txt"
MAIN = "extension.py"
ALONE = "--no-deps "
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])?\s*==\s*[A-Za-z0-9][A-Za-z0-9.!+_-]*(\s*;.+)?")


@dataclass(frozen=True)
class Needs:
    """What an extension's requirements.txt asks for.

    alone: packages to be had without what they would bring. refused: lines that name no exact version.
    """

    extension: str
    lines: tuple[str, ...]
    alone: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join((*self.lines, "", *self.alone)).encode()).hexdigest()

    @property
    def packages(self) -> str:
        """ "a==1, b==2"."""
        return ", ".join(line.partition(";")[0].strip() for line in (*self.lines, *self.alone))


def needs_of(folder: Path) -> Needs:
    """Raises: OSError, UnicodeDecodeError for a file that can't be read."""
    lines, alone, refused = [], [], []
    for text in (folder / FILE).read_text(encoding="utf-8").splitlines():
        line = re.sub(r"(^|\s)#.*", "", text).strip()
        package = line.removeprefix(ALONE).strip()
        if not line:
            continue
        if not _PINNED.fullmatch(package):
            refused.append(line)
        elif line.startswith(ALONE):
            alone.append(package)
        else:
            lines.append(package)
    return Needs(folder.name, tuple(lines), tuple(alone), tuple(refused))


def enabled_extensions(folders: Sequence[Path], config: Path, *, none: bool = False, extra: bool = True) -> list[Path]:
    """The folders of extensions that have a requirements.txt and are enabled, ours first, then by name.

    folders: the program's own, then the user's. config: config.json, which names the disabled ones.
    none: no extension at all. extra: whether the user's count.
    """
    try:
        settings = json.loads(config.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        settings = {}
    settings = settings if isinstance(settings, dict) else {}
    disabled = settings.get("disabled_extensions")
    left_out = set(disabled) if isinstance(disabled, list) else set()
    mode = settings.get("disable_all_extensions", "none")
    if none or mode == "all":
        return []
    searched = folders if extra and mode != "extra" else folders[:1]
    found: dict[Path, None] = {}
    for parent in dict.fromkeys(folder.resolve() for folder in searched if folder.is_dir()):
        for folder in sorted(parent.iterdir()):
            if (folder / FILE).is_file() and (folder / MAIN).is_file() and folder.name not in left_out:
                found[folder] = None
    return list(found)


def missing(wanted: Iterable[Needs], stamp: Mapping[str, object]) -> list[Needs]:
    """Those that aren't installed yet, by what the stamp says: {extension: fingerprint}."""
    return [needs for needs in wanted if needs.lines + needs.alone and stamp.get(needs.extension) != needs.fingerprint]
