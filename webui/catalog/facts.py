"""What was once read from model files, remembered as JSON.

Reading five thousand headers takes seconds, asking for five thousand facts milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from webui.catalog.file_memory import FileMemory, Identity
from webui.catalog.files import ModelFile
from webui.core.texts import shown_name


class FactCache:
    """Safe to use from several threads. path: the database; None, or a place that can't be written, for memory only."""

    def __init__(self, path: Path | None = None):
        self._memory = FileMemory(path, "facts")

    def close(self) -> None:
        self._memory.close()

    def get(self, file: ModelFile, kind: str) -> Any | None:
        """The remembered fact of the file as the catalog last saw it, else None."""
        value = self._memory.get(kind, _stored(file))
        return None if value is None else json.loads(value)

    def put(self, file: ModelFile, kind: str, value: Any) -> None:
        """Remember a fact; on a full or read-only disk it is read again next time."""
        self._memory.put(kind, _stored(file), json.dumps(value))

    def of(self, file: ModelFile, kind: str, read: Callable[[Path], Any]) -> Any:
        """The fact, from the cache or by `read(path)`, whose exceptions pass through."""
        known = self.get(file, kind)
        if known is not None:
            return known
        value = read(file.path)
        self.put(file, kind, value)
        return value


def _stored(file: ModelFile) -> Identity:
    """The file's identity as a database can hold it."""
    path, size, mtime_ns = file.identity
    return shown_name(path), size, mtime_ns
