"""Hashes of model files, computed once and remembered.

Kinds: "sha256" over the whole file (its first 10 digits are A1111's short hash), "legacy" (A1111's old
8-digit hash: SHA-256 over 64 KiB at offset 1 MiB), "addnet" (SHA-256 of all that follows a safetensors header);
and, since it is remembered in the same way, "pickle": why a PyTorch file is refused, "" when it isn't.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from webui.catalog.file_memory import FileMemory
from webui.catalog.files import ModelFile
from webui.catalog.pickle_header import pickle_problem
from webui.catalog.safetensors_header import read_header
from webui.core.texts import shown_name

CHUNK = 1 << 22
LEGACY_OFFSET, LEGACY_LENGTH = 0x100000, 0x10000
CHEAP = ("legacy", "pickle")
"""Kinds that --no-hashing leaves on."""


class HashCache:
    """Safe to use from several threads; hashing itself runs outside the lock and releases the GIL.

    enabled: False is --no-hashing: `known` and `compute` answer None except for the cheap kinds.
    """

    def __init__(self, path: Path, enabled: bool = True):
        self.enabled = enabled
        self._memory = FileMemory(path, "hashes")

    @property
    def problem(self) -> str | None:
        """A sentence when the stored hashes were unusable, or are kept in memory only."""
        return self._memory.problem

    def close(self) -> None:
        self._memory.close()

    def __enter__(self) -> HashCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def known(self, path: Path, kind: str = "sha256") -> str | None:
        """The remembered hash of the file as it is now, else None; never reads the file's content."""
        if not self.enabled and kind not in CHEAP:
            return None
        try:
            stat = path.stat()
        except OSError:
            return None
        return self._memory.get(kind, (_key(path), stat.st_size, stat.st_mtime_ns))

    def known_of(self, files: Iterable[ModelFile], kind: str = "sha256") -> dict[Path, str]:
        """The remembered hashes of many files as they were when listed, by their paths."""
        if not self.enabled and kind not in CHEAP:
            return {}
        known = dict(self._memory.all(kind))
        found = ((file.path, known.get((_key(file.path), file.size, file.mtime_ns))) for file in files)
        return {path: value for path, value in found if value is not None}

    def compute(self, path: Path, kind: str = "sha256", keep_going: Callable[[], bool] = lambda: True) -> str | None:
        """The hash of the file, from the cache or by reading it (blocking).

        None with --no-hashing, when `keep_going` turned False, or when the file changed while being read.
        Raises: OSError when it can't be read, BadModelFile for "addnet" of something that isn't safetensors.
        """
        found = self.known(path, kind)
        if found is not None or (not self.enabled and kind not in CHEAP):
            return found
        before = path.stat()
        value = _HASHERS[kind](path, keep_going)
        after = path.stat()
        if value is None or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            return None
        self._memory.put(kind, (_key(path), after.st_size, after.st_mtime_ns), value)
        return value


def _key(path: Path) -> str:
    return shown_name(os.path.abspath(path))  # what a database can hold


def _sha256_from(path: Path, offset: int, keep_going: Callable[[], bool]) -> str | None:
    digest = hashlib.sha256()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while count := file.readinto(buffer):
            if not keep_going():
                return None
            digest.update(view[:count])
    return digest.hexdigest()


def _sha256(path: Path, keep_going: Callable[[], bool]) -> str | None:
    return _sha256_from(path, 0, keep_going)


def _addnet(path: Path, keep_going: Callable[[], bool]) -> str | None:
    return _sha256_from(path, read_header(path).data_start, keep_going)


def _legacy(path: Path, keep_going: Callable[[], bool]) -> str:
    with path.open("rb", buffering=0) as file:
        file.seek(LEGACY_OFFSET)
        return hashlib.sha256(file.read(LEGACY_LENGTH)).hexdigest()[:8]


def _pickle(path: Path, keep_going: Callable[[], bool]) -> str:
    return pickle_problem(path) or ""


_HASHERS: dict[str, Callable[[Path, Callable[[], bool]], str | None]] = {
    "sha256": _sha256,
    "addnet": _addnet,
    "legacy": _legacy,
    "pickle": _pickle,
}
