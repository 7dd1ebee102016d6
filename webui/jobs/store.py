"""The jobs on the disk: one SQLite table, which outlives the server.

WAL with synchronous=NORMAL: what was written survives the death of the process at any moment, and a submit costs no
fsync; after a power cut the last moments may be missing, never half there.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import NoSpace, WebuiError
from webui.jobs.errors import StoreUnavailable, is_no_space

log = logging.getLogger(__name__)

WAIT_FOR_LOCK = 5.0
"""Seconds that a write waits for another program to let go of the file."""
BACKUP_EVERY = 60.0
_BLOB = re.compile(r'"\$blob": ?"([0-9a-f]{64})"')
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    place REAL NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    result TEXT,
    saved BLOB,
    submitted REAL NOT NULL,
    ended REAL,
    ended_as INTEGER
)
"""


@dataclass(frozen=True)
class StoredJob:
    """A row without its large columns. attempts: how often it was begun and not ended by itself."""

    id: str
    place: float
    kind: str
    title: str
    state: str
    attempts: int
    error: Mapping[str, Any] | None
    submitted: float
    ended: float | None


class JobStore:
    """Safe to use from several threads. Every method raises StoreUnavailable or NoSpace when the disk fails it.

    problems: sentences about what was found wrong with the file. trouble: why the last write failed, else "".
    """

    def __init__(self, path: Path) -> None:
        """Open the file; a damaged one is set aside and the latest backup takes its place."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.backup_path = path.with_name(f"{path.stem}.backup{path.suffix}")
        self.problems: list[str] = []
        self.trouble = ""
        self._lock = threading.Lock()
        self._changes_at_backup = -1
        self._backed_up = 0.0
        try:
            self._db = _opened(path)
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"The queue {path} can't be opened: {error}.") from error
        except sqlite3.DatabaseError as error:
            self._db = self._restored(error)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(self, job_id: str, place: float, kind: str, title: str, payload: str) -> None:
        """A new job that waits. payload: JSON. Raises: KeyError when there is a job of that id."""
        with self._writing() as db:
            try:
                db.execute(
                    "INSERT INTO jobs (id, place, kind, title, payload, state, submitted) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (job_id, place, kind, title, payload, "queued", time.time()),
                )
            except sqlite3.IntegrityError as error:
                raise KeyError(job_id) from error

    def begin(self, job_id: str) -> int:
        """It runs from here on; returns which attempt this is, from 1."""
        with self._writing() as db:
            db.execute("UPDATE jobs SET state = 'running', attempts = attempts + 1 WHERE id = ?", (job_id,))
            (attempts,) = db.execute("SELECT attempts FROM jobs WHERE id = ?", (job_id,)).fetchone()
            return int(attempts)

    def end(self, job_id: str, state: str, error: Mapping[str, Any] | None = None, result: str | None = None) -> None:
        """It has ended. result: JSON."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET state = ?1, error = ?2, result = ?3, ended = ?4, "
                "saved = CASE WHEN ?1 = 'done' THEN NULL ELSE saved END, "
                "ended_as = (SELECT COALESCE(MAX(ended_as), 0) + 1 FROM jobs) WHERE id = ?5",
                (state, json.dumps(error) if error else None, result, time.time(), job_id),
            )

    def wait_again(self, job_id: str, place: float, attempts: int) -> None:
        """Back into the queue. attempts: how many count."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET state = 'queued', place = ?, attempts = ?, error = NULL, result = NULL, "
                "ended = NULL, ended_as = NULL "
                "WHERE id = ?",
                (place, attempts, job_id),
            )

    def put_at(self, places: Mapping[str, float]) -> None:
        """Change the order of what waits."""
        with self._writing() as db:
            changes = [(place, job_id) for job_id, place in places.items()]
            db.executemany("UPDATE jobs SET place = ? WHERE id = ?", changes)

    def save_state(self, job_id: str, state: bytes) -> None:
        """What the job needs to go on from here; replaces what it saved before, all or nothing."""
        with self._writing() as db:
            db.execute("UPDATE jobs SET saved = ? WHERE id = ?", (state, job_id))

    def load_state(self, job_id: str) -> bytes | None:
        state: bytes | None = self._column(job_id, "saved")
        return state

    def payload(self, job_id: str) -> str | None:
        payload: str | None = self._column(job_id, "payload")
        return payload

    def result(self, job_id: str) -> str | None:
        result: str | None = self._column(job_id, "result")
        return result

    def forget(self, job_id: str) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def forget_result(self, job_id: str) -> None:
        with self._writing() as db:
            db.execute("UPDATE jobs SET result = NULL WHERE id = ?", (job_id,))

    def all(self) -> list[StoredJob]:
        """Every job: what has ended in the order it did, then what runs and waits, the next to start first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT id, place, kind, title, state, attempts, error, submitted, ended FROM jobs "
                "ORDER BY ended_as IS NULL, ended_as, state != 'running', place"
            ).fetchall()
        return [
            StoredJob(job_id, place, kind, title, state, attempts, json.loads(error) if error else None, begun, ended)
            for job_id, place, kind, title, state, attempts, error, begun, ended in rows
        ]

    def digests(self) -> set[str]:
        """The hashes of all pictures that a job refers to."""
        with self._reading() as db:
            texts = db.execute("SELECT payload, COALESCE(result, '') FROM jobs")
            return {digest for row in texts for text in row for digest in _BLOB.findall(text)}

    def back_up(self, at_most_every: float = BACKUP_EVERY) -> None:
        """Copy the file to its backup if it has changed since, so that a damaged one can be replaced."""
        with self._lock:
            changes = self._db.total_changes
            if changes == self._changes_at_backup or time.monotonic() - self._backed_up < at_most_every:
                return
            fresh = self.backup_path.with_suffix(".new")
            try:
                fresh.unlink(missing_ok=True)
                with sqlite3.connect(fresh) as copy:
                    self._db.backup(copy)
                copy.close()
                fresh.replace(self.backup_path)
            except (OSError, sqlite3.Error) as error:
                log.warning("The queue could not be backed up to %s: %s", self.backup_path, error)
                return
            self._changes_at_backup, self._backed_up = changes, time.monotonic()

    def _column(self, job_id: str, column: str) -> Any:
        with self._reading() as db:
            row = db.execute(f"SELECT {column} FROM jobs WHERE id = ?", (job_id,)).fetchone()
            return row[0] if row else None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock:
            try:
                with self._db:
                    yield self._db
            except sqlite3.Error as error:
                failure = failure_of(error, self.path)
                self.trouble = str(failure)
                raise failure from error
            self.trouble = ""

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise failure_of(error, self.path) from error

    def _restored(self, error: sqlite3.Error) -> sqlite3.Connection:
        """The database from its backup, else a new one; the damaged file is kept."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.broken-{number}")).exists():
            number += 1
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        said = f"The queue {self.path} was damaged ({error}); it is kept as {aside.name}"
        try:
            if self.backup_path.exists():
                _opened(self.backup_path).close()
                self.path.write_bytes(self.backup_path.read_bytes())
                self.problems.append(f"{said}, and the jobs of its last backup are there again.")
                return _opened(self.path)
        except sqlite3.DatabaseError as second:
            log.warning("The backup of the queue is damaged too: %s", second)
            self.path.unlink(missing_ok=True)
        self.problems.append(f"{said}. There was no backup: jobs that waited are lost, saved pictures are not.")
        return _opened(self.path)


def _opened(path: Path) -> sqlite3.Connection:
    """Raises: sqlite3.DatabaseError for a damaged file."""
    db = sqlite3.connect(path, timeout=WAIT_FOR_LOCK, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        with db:
            db.execute(_TABLE)
    except BaseException:
        db.close()
        raise
    return db


def failure_of(error: sqlite3.Error | OSError, path: Path) -> WebuiError:
    """The error as a sentence. path: what could not be written."""
    if is_no_space(error):
        return NoSpace(f"There is no space left for the queue at {path.parent}; make room there.")
    return StoreUnavailable(f"The queue {path} can't be written: {error}. New jobs are refused until it can.")
