"""Pictures that jobs wait with and hand back, each once under its hash."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from webui.core.errors import NotFound
from webui.core.files import write_atomic

DIGEST = re.compile(r"[0-9a-f]{64}")
SIZE_LIMIT = 2 << 30
"""Bytes of all blobs together; beyond it the oldest results are let go."""


class BlobStore:
    """A folder of files named by the SHA-256 of their content. Safe to use from several threads.

    A file appears whole or not at all. What nothing refers to any more goes with the next `sweep`.
    """

    def __init__(self, folder: Path) -> None:
        """Raises: OSError when the folder can't be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = threading.Lock()
        self._holders = 0

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(path.stat().st_size for path in self._files())

    @contextmanager
    def held(self) -> Iterator[None]:
        """While inside nothing is swept, so that what is put is still there when something refers to it."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1

    def put(self, data: bytes) -> str:
        """Keep the bytes; returns their hash. Raises: OSError (no space, no permission)."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / digest
        if not path.exists():
            write_atomic(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """Raises: NotFound when they are gone or aren't what they were."""
        try:
            data = (self.folder / digest).read_bytes() if DIGEST.fullmatch(digest) else b""
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != digest:
            raise NotFound("A picture of this job is no longer kept; ask for it again.")
        return data

    def path_of(self, digest: str) -> Path:
        """Where the bytes lie. Raises: ValueError for what is no hash."""
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r:.100} is no SHA-256")
        return self.folder / digest

    def sweep(self, in_use: Callable[[], Collection[str]]) -> None:
        """Delete what isn't in use, and what a crash left half written; nothing while anyone holds the store."""
        with self._lock:
            if self._holders:
                return
            kept = set(in_use())
            for path in list(self.folder.iterdir()):
                if path.name not in kept:
                    path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        return (path for path in self.folder.iterdir() if DIGEST.fullmatch(path.name))
