"""Which model files lie below some folders: the base of every catalog.

A catalog is an immutable list that is replaced at once. `refresh` looks at everything; `poll` costs one look at each
folder's modification time and reads only the folders that have changed, so that it may be asked all the time.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from webui.core.errors import NotFound, nearest
from webui.core.texts import shown_name

FOLDER_MODEL = "model_index.json"
"""What makes a folder one model, in diffusers' layout."""

COARSE = 2.0
"""Seconds within which two changes of a folder may carry the same time (FAT, network drives)."""


@dataclass(frozen=True)
class ModelFile:
    """A file that holds a model, seen from outside; a folder in diffusers' layout counts as one file.

    name: relative to its root with "/", absolute when two roots hold the same relative name; as `shown_name` has it.
    root: the folder of the catalog it was found in. size: bytes, 0 for a folder. created: seconds since the epoch.
    beside: the names of everything in the same folder, where sidecars and previews are looked up.
    """

    path: Path
    root: Path
    name: str
    size: int
    mtime_ns: int
    created: float = 0.0
    is_folder: bool = False
    beside: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    @property
    def own_stem(self) -> str:
        """The file name without its suffix as the disk has it, which names what lies beside."""
        return self.path.name if self.is_folder else self.path.stem

    @property
    def stem(self) -> str:
        """The name in a prompt: the file name without its suffix."""
        return shown_name(self.own_stem)

    @property
    def file_name(self) -> str:
        """The file name as it is shown."""
        return shown_name(self.path.name)

    @property
    def folder(self) -> str:
        """The folder below the root with "/", "" for the root itself."""
        parent = self.path.parent
        return "" if parent == self.root else shown_name(parent.relative_to(self.root).as_posix())

    @property
    def hidden(self) -> bool:
        """Whether a folder on the way from the root begins with a dot."""
        return any(part.startswith(".") for part in self.path.parent.relative_to(self.root).parts)

    @property
    def identity(self) -> tuple[str, int, int]:
        """Changes when the content does: equal identities are the same weights."""
        return str(self.path), self.size, self.mtime_ns


@dataclass(frozen=True)
class _Folder:
    """What one folder held when it was read. real: its path without links. seen: when, in seconds since the epoch.

    linked: those of `folders` that are links.
    """

    path: Path
    real: str
    mtime_ns: int
    seen: float
    folders: tuple[Path, ...]
    linked: frozenset[Path]
    files: tuple[tuple[str, os.stat_result], ...]
    names: frozenset[str]
    is_model: bool


class FileCatalog:
    """The files with one of some suffixes below some folders, in natural order. Safe to use from several threads.

    roots: searched in this order; missing ones are passed over until they are there.
    suffixes: lower-case, with the dot. files: single files outside the folders.
    wanted: says of a file's name whether it belongs here. hidden: whether folders named ".x" are entered.
    folders: whether a folder in diffusers' layout is listed as a model. passed_over: names of folders that aren't
    entered.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        suffixes: Sequence[str],
        *,
        files: Sequence[Path] = (),
        wanted: Callable[[str], bool] = lambda name: True,
        hidden: bool = False,
        folders: bool = False,
        passed_over: Collection[str] = (),
    ):
        self.roots = tuple(dict.fromkeys(Path(os.path.abspath(root)) for root in roots))
        self.suffixes = tuple(suffixes)
        self._single = tuple(files)
        self._wanted = wanted
        self._hidden = hidden
        self._folder_models = folders
        self._passed_over = frozenset(passed_over)
        self._lock = threading.Lock()
        self._read: dict[Path, _Folder] = {}
        self._polled = 0.0
        self._version = 0
        self._all: tuple[ModelFile, ...] = ()
        self._seen: Mapping[Path, tuple[int, frozenset[str]]] = {}
        self._index: Mapping[str, ModelFile] = {}
        self.refresh()

    def __iter__(self) -> Iterator[ModelFile]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def version(self) -> int:
        """Counts up whenever a file of the list, or what lies beside one, was added, removed or replaced."""
        return self._version

    def all(self) -> tuple[ModelFile, ...]:
        return self._all

    def refresh(self) -> tuple[ModelFile, ...]:
        """Look at every folder and file again."""
        with self._lock:
            self._read = {}
            self._scan()
            return self._all

    def poll(self, at_most_every: float = 1.0) -> bool:
        """Read the folders that have changed; returns whether anything did.

        A file written in place, without a change to its folder, is seen by `refresh` only.
        at_most_every: seconds since the last poll before the folders are looked at again.
        """
        with self._lock:
            if time.monotonic() - self._polled < at_most_every:
                return False
            stale = [path for path, folder in self._read.items() if _changed(folder)]
            appeared = any(root not in self._read and root.is_dir() for root in self.roots)
            self._polled = time.monotonic()
            if not stale and not appeared:
                return False
            for path in stale:
                del self._read[path]
            before = self._version
            self._scan()
            return self._version != before

    def find(self, name: str) -> ModelFile:
        """The file meant by its stem, its name with or without suffix, or its path, in any case, with / or \\.

        Of several equal stems the first one counts. Raises: NotFound naming the nearest.
        """
        found = self.get(name)
        if found is None:
            close = nearest(name, (file.stem for file in self._all))
            raise NotFound(f'There is no "{name[:200]}"{close}. Refresh the list if you just added it.')
        return found

    def get(self, name: str) -> ModelFile | None:
        """As `find`, None when there is no such file."""
        wanted, index = name.strip(), self._index
        return index.get(wanted) or index.get(wanted.lower()) or index.get(slashed(wanted.lower()))

    def _scan(self) -> None:
        """Bring the list up to date with the folders in `_read`, reading those that are missing there."""
        found: dict[str, ModelFile] = {}
        taken: set[str] = set()
        kept: dict[Path, _Folder] = {}
        for root in self.roots:
            for folder in self._walk(root, kept):
                for real, file in self._files_of(folder, root, taken):
                    found.setdefault(real, file)
                    taken.add(file.name)
        for path in self._single:
            single = self._single_file(path, taken)
            if single:
                found.setdefault(os.path.join(os.path.realpath(path.parent), path.name), single)
        ordered = tuple(sorted(found.values(), key=lambda file: natural_key(file.name)))
        seen = {path: (folder.mtime_ns, folder.names) for path, folder in kept.items()}
        self._read = kept
        self._polled = time.monotonic()
        if self._version == 0 or ordered != self._all or seen != self._seen:
            self._all, self._seen = ordered, seen
            self._index = _index(ordered)
            self._version += 1

    def _walk(self, root: Path, kept: dict[Path, _Folder]) -> Iterator[_Folder]:
        """Every folder below the root once, links followed after all that are none; fills `kept`."""
        entered: set[str] = {folder.real for folder in kept.values()}
        waiting, linked = [root], list[Path]()
        while waiting or linked:
            path = waiting.pop() if waiting else linked.pop(0)
            folder = self._read.get(path) or _read_folder(path, self.suffixes)
            if folder is None or folder.real in entered:
                continue
            entered.add(folder.real)
            kept[path] = folder
            yield folder
            if not (folder.is_model and self._folder_models):
                inner = [path for path in folder.folders if self._enters(path.name)]
                waiting += [path for path in reversed(inner) if path not in folder.linked]
                linked += [path for path in inner if path in folder.linked]

    def _enters(self, name: str) -> bool:
        return (self._hidden or name[0] != ".") and name not in self._passed_over

    def _files_of(self, folder: _Folder, root: Path, taken: set[str]) -> Iterator[tuple[str, ModelFile]]:
        """(path without links on the way, file). A link to a file is a file of its own name."""
        if folder.is_model and self._folder_models and folder.path != root:
            yield folder.real, self._describe(folder.path, root, folder.mtime_ns, 0, taken, is_folder=True)
            return
        for name, stat in folder.files:
            if self._wanted(name):
                path, real = folder.path / name, os.path.join(folder.real, name)
                yield real, self._describe(path, root, stat.st_mtime_ns, stat.st_size, taken, stat, folder.names)

    @staticmethod
    def _describe(
        path: Path,
        root: Path,
        mtime_ns: int,
        size: int,
        taken: set[str],
        stat: os.stat_result | None = None,
        beside: frozenset[str] = frozenset(),
        is_folder: bool = False,
    ) -> ModelFile:
        name = shown_name(path.relative_to(root).as_posix())
        created = getattr(stat, "st_birthtime", stat.st_ctime) if stat else mtime_ns / 1e9
        name = shown_name(path.as_posix()) if name in taken else name
        return ModelFile(path, root, name, size, mtime_ns, float(created), is_folder, beside)

    def _single_file(self, path: Path, taken: set[str]) -> ModelFile | None:
        try:
            stat = path.stat()
            beside = frozenset(os.listdir(path.parent))
        except OSError:
            return None
        if not path.is_file() or not path.name.lower().endswith(self.suffixes):
            return None
        return self._describe(path, path.parent, stat.st_mtime_ns, stat.st_size, taken, stat, beside)


_DIGITS = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which "v9" comes before "v10", without regard to case."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _DIGITS.split(name.lower()))


def _read_folder(path: Path, suffixes: tuple[str, ...]) -> _Folder | None:
    """None for what is no folder, can't be read, or is a dangling link."""
    folders: list[Path] = []
    linked: list[Path] = []
    files: list[tuple[str, os.stat_result]] = []
    names: list[str] = []
    try:
        seen, mtime_ns = time.time(), path.stat().st_mtime_ns
        with os.scandir(path) as entries:
            for entry in entries:
                names.append(entry.name)
                kind = _kind(entry)
                if kind == "folder":
                    folders.append(path / entry.name)
                    linked += [path / entry.name] if entry.is_symlink() else []
                elif kind == "file" and entry.name[0] != "." and entry.name.lower().endswith(suffixes):
                    files.append((entry.name, entry.stat() if os.name != "nt" else os.stat(entry)))
    except OSError:
        return None
    folders.sort()
    files.sort(key=lambda file: file[0])
    real = os.path.realpath(path)
    found = frozenset(names)
    is_model = FOLDER_MODEL in found
    return _Folder(path, real, mtime_ns, seen, tuple(folders), frozenset(linked), tuple(files), found, is_model)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() and entry.stat() else ""
    except OSError:
        return ""


def _changed(folder: _Folder) -> bool:
    """Whether the folder has changed since it was read, or may have within the coarseness of its time."""
    try:
        mtime_ns = folder.path.stat().st_mtime_ns
    except OSError:
        return True
    return mtime_ns != folder.mtime_ns or 0 <= folder.seen - mtime_ns / 1e9 < COARSE


def _index(files: Sequence[ModelFile]) -> Mapping[str, ModelFile]:
    """Every spelling of a file; exact ones come before those in lower case and with "/", whole paths before stems."""
    index: dict[str, ModelFile] = {}
    columns = list(zip(*map(_spellings, files), strict=True))
    for written in (str, str.lower, lambda spelling: slashed(spelling.lower())):
        for column in columns:
            for spelling, file in zip(column, files, strict=True):
                index.setdefault(written(spelling), file)
    return index


def slashed(name: str) -> str:
    """A name in a folder as every system but Windows writes it: "/" for each "\\"."""
    return name.replace("\\", "/")


def _spellings(file: ModelFile) -> tuple[str, ...]:
    bare = file.name if file.is_folder else file.name[: len(file.name) - len(file.path.suffix)]
    path = str(file.path)
    return (
        path,
        shown_name(path),
        file.path.as_posix(),
        file.name,
        bare,
        file.path.name,
        file.file_name,
        file.own_stem,
        file.stem,
    )
