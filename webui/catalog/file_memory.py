"""What was once found out about files, remembered in SQLite.

A value counts while its file's path, size and modification time (ns) are the same.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

Identity = tuple[str, int, int]
"""Absolute path, size in bytes, modification time in ns."""


class FileMemory:
    """One table of (kind, file) -> text. Safe to use from several threads.

    It holds nothing that can't be found out again: a broken database is made anew, a place that can't be written
    gives one in memory. problem: a sentence when that happened or a value couldn't be stored, else None.
    """

    def __init__(self, path: Path | None, table: str):
        """path: the database; None for one in memory. table: its name, a plain word."""
        self.problem: str | None = None
        self._name = path.name if path else ""
        self._table = table
        self._lock = threading.Lock()
        self._database = self._open(path)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def get(self, kind: str, identity: Identity) -> str | None:
        """The value of the file as it is said to be, None when it is unknown or the file was another then."""
        wanted = f"SELECT value FROM {self._table} WHERE kind = ? AND path = ? AND size = ? AND mtime_ns = ?"
        with self._lock:
            row = self._database.execute(wanted, (kind, *identity)).fetchone()
        return row[0] if row else None

    def all(self, kind: str) -> Iterator[tuple[Identity, str]]:
        """Every value of a kind."""
        with self._lock:
            wanted = f"SELECT path, size, mtime_ns, value FROM {self._table} WHERE kind = ?"
            rows = self._database.execute(wanted, (kind,)).fetchall()
        return (((path, size, mtime_ns), value) for path, size, mtime_ns, value in rows)

    def put(self, kind: str, identity: Identity, value: str) -> None:
        """Remember a value in place of the one known for that path; a full or read-only disk is a `problem`."""
        with self._lock:
            try:
                stored = f"INSERT OR REPLACE INTO {self._table} VALUES (?, ?, ?, ?, ?)"
                self._database.execute(stored, (kind, *identity, value))
                self._database.commit()
            except sqlite3.Error as error:
                self._database.rollback()
                self.problem = (
                    f"{self._name} can't be written ({error}); its {self._table} will be read again next time."
                )

    def _open(self, path: Path | None) -> sqlite3.Connection:
        if path is None:
            return self._connect(":memory:")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return self._connect(str(path))
        except sqlite3.DatabaseError as error:
            self.problem = f"{path.name} was unusable ({error}) and was made anew; its {self._table} are read again."
        except OSError as error:
            self.problem = f"{path.parent} can't be written ({error}); {self._table} are kept in memory only."
            return self._connect(":memory:")
        try:
            for part in ("", "-wal", "-shm"):
                path.with_name(path.name + part).unlink(missing_ok=True)
            return self._connect(str(path))
        except (sqlite3.DatabaseError, OSError):
            return self._connect(":memory:")

    def _connect(self, place: str) -> sqlite3.Connection:
        database = sqlite3.connect(place, check_same_thread=False, timeout=5)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} (kind TEXT NOT NULL, path TEXT NOT NULL, "
                "size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, value TEXT NOT NULL, "
                "PRIMARY KEY (kind, path)) WITHOUT ROWID"
            )
            database.execute(f"SELECT kind, path, size, mtime_ns, value FROM {self._table} LIMIT 1").fetchone()
            database.commit()
        except sqlite3.Error:
            database.close()
            raise
        return database
