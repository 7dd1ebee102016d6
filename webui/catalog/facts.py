"""What was once read from model files, remembered in SQLite as JSON.

A fact counts while the file's path, size and modification time (ns) are the same. Reading five thousand headers
takes seconds, asking for five thousand facts milliseconds.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from webui.catalog.files import ModelFile

_TABLE = """CREATE TABLE IF NOT EXISTS facts (
    kind TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (kind, path)
) WITHOUT ROWID"""


class FactCache:
    """Safe to use from several threads. It holds nothing that can't be read again: a broken one starts empty.

    path: the database; None, or a place that can't be written, keeps the facts in memory.
    """

    def __init__(self, path: Path | None = None):
        self._lock = threading.Lock()
        self._database = _open(path)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def get(self, file: ModelFile, kind: str) -> Any | None:
        """The remembered fact of the file as the catalog last saw it, else None."""
        with self._lock:
            row = self._database.execute(
                "SELECT value FROM facts WHERE kind = ? AND path = ? AND size = ? AND mtime_ns = ?",
                (kind, *file.identity),
            ).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, file: ModelFile, kind: str, value: Any) -> None:
        """Remember a fact; on a full or read-only disk it is read again next time."""
        with self._lock:
            try:
                self._database.execute(
                    "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", (kind, *file.identity, json.dumps(value))
                )
                self._database.commit()
            except sqlite3.Error:
                self._database.rollback()

    def of(self, file: ModelFile, kind: str, read: Callable[[Path], Any]) -> Any:
        """The fact, from the cache or by `read(path)`, whose exceptions pass through."""
        known = self.get(file, kind)
        if known is not None:
            return known
        value = read(file.path)
        self.put(file, kind, value)
        return value


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        for _ in range(2):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                return _connect(str(path))
            except sqlite3.DatabaseError:
                for part in ("", "-wal", "-shm"):
                    path.with_name(path.name + part).unlink(missing_ok=True)
            except OSError:
                break
    return _connect(":memory:")


def _connect(place: str) -> sqlite3.Connection:
    database = sqlite3.connect(place, check_same_thread=False, timeout=5)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(_TABLE)
        database.execute("SELECT kind, path, size, mtime_ns, value FROM facts LIMIT 1").fetchone()
        database.commit()
    except sqlite3.Error:
        database.close()
        raise
    return database
