"""What is known of the files below the outputs: a SQLite database, brought up to date in a thread of its own.

A folder whose time hasn't changed since it was read is not listed again, so a look at many unchanged files costs one
`stat` a folder.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from webui.core.errors import WebuiError
from webui.core.infotext import parse
from webui.services.file_texts import read_file_texts

log = logging.getLogger(__name__)

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif")
VIDEOS = (".mp4", ".webm", ".mkv", ".mov", ".avi")
TRASH = ".trash"
"""Folder in the outputs for what was deleted."""
VERSION = 1
BATCH = 200
"""Files that are written to the database at once."""
SETTLED = 2_000_000_000
"""Nanoseconds after which a folder's time tells any later change."""
LARGEST_READ = 256 << 20
"""Bytes of a picture whose text is looked for."""
HEAD = 1 << 18
"""Bytes of a PNG in which its texts are looked for first; what writes them puts them before the pixels."""
SCHEMA = """
CREATE TABLE folders (path TEXT PRIMARY KEY, parent TEXT NOT NULL, mtime INTEGER NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, folder TEXT NOT NULL, section TEXT NOT NULL,
    kind TEXT NOT NULL, mtime INTEGER NOT NULL, size INTEGER NOT NULL, model TEXT NOT NULL, trashed INTEGER NOT NULL
);
CREATE INDEX files_by_folder ON files (folder);
CREATE INDEX files_by_time ON files (trashed, mtime DESC, id DESC);
CREATE TABLE loras (name TEXT NOT NULL, file INTEGER NOT NULL, PRIMARY KEY (name, file)) WITHOUT ROWID;
CREATE INDEX loras_by_file ON loras (file);
CREATE VIRTUAL TABLE texts USING fts5 (name, infotext);
"""
_LORA = re.compile(r"<(?:lora|lyco):([^:<>]{1,200})")


@dataclass(frozen=True)
class Known:
    """One file. path: below the outputs, parts separated by "/". mtime: nanoseconds. kind: "image" or "video"."""

    id: int
    path: str
    section: str
    kind: str
    mtime: int
    size: int
    model: str
    trashed: bool


class GalleryIndex:
    """root: the outputs' folder. database: its file, made anew when it can't be used. Safe to use from any thread."""

    def __init__(self, root: Path, database: Path):
        self.root = root
        self._path = database
        self._scanning = threading.Lock()
        self._thread: threading.Thread | None = None
        self._state = threading.Lock()
        self.read = 0
        self._make()

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """A connection, whose changes are kept if the context ends well."""
        with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            yield connection

    @property
    def busy(self) -> bool:
        """Whether files are being read."""
        return self._scanning.locked()

    def refresh(self) -> None:
        """Bring the database up to date in the background; a no-op while that is going on."""
        with self._state:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._scan_told, name="gallery", daemon=True)
                self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Until the background has done its work. Returns: whether that came in time (seconds)."""
        with self._state:
            thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def scan(self) -> int:
        """Bring the database up to date. Returns: how many folders had to be listed."""
        with self._scanning, self.connected() as connection:
            connection.isolation_level = None  # batches are committed one by one, so that readers see them
            self.read = 0
            return self._scan(connection, "", "")

    def moved(self, number: int, path: str) -> None:
        """Note where a file lies now, below the root."""
        folder = path.rpartition("/")[0]
        trashed = path.startswith(f"{TRASH}/")
        with self.connected() as connection:
            values = (path, folder, trashed, number)
            connection.execute("UPDATE OR REPLACE files SET path = ?, folder = ?, trashed = ? WHERE id = ?", values)

    def forget(self, numbers: Iterable[int]) -> None:
        """Leave out files that were deleted."""
        with self.connected() as connection:
            _forget(connection, numbers)

    def _scan_told(self) -> None:
        try:
            self.scan()
        except (sqlite3.Error, OSError) as error:
            log.warning("The gallery's list of files can't be brought up to date: %s", error)

    def _make(self) -> None:
        """Open the database; one that is damaged or of another version is made anew."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.connected() as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version == VERSION:
                    connection.execute("SELECT count(*) FROM texts WHERE texts MATCH 'x'")
                    return
        except sqlite3.DatabaseError:
            log.warning("The gallery's list of files can't be read and is made anew")
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        with self.connected() as connection:
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def _scan(self, connection: sqlite3.Connection, folder: str, parent: str) -> int:
        """folder: below the root, "" for the root itself."""
        place = self.root / folder
        try:
            mtime = place.stat().st_mtime_ns
        except OSError:
            self._forget_folder(connection, folder)
            return 0
        known = connection.execute("SELECT mtime FROM folders WHERE path = ?", (folder,)).fetchone()
        if known is not None and known[0] == mtime:
            inside = [row[0] for row in connection.execute("SELECT path FROM folders WHERE parent = ?", (folder,))]
            return sum(self._scan(connection, path, folder) for path in inside if path != folder)
        began = time.time_ns()
        folders, files = _listed(place, folder)
        self._take(connection, folder, files)
        before = {row[0] for row in connection.execute("SELECT path FROM folders WHERE parent = ?", (folder,))}
        for gone in before - set(folders) - {folder}:
            self._forget_folder(connection, gone)
        listed = 1 + sum(self._scan(connection, path, folder) for path in folders)
        settled = mtime if began - mtime > SETTLED else 0
        row = (folder, parent, settled)
        connection.execute("INSERT OR REPLACE INTO folders (path, parent, mtime) VALUES (?, ?, ?)", row)
        return listed

    def _take(self, connection: sqlite3.Connection, folder: str, files: dict[str, os.stat_result]) -> None:
        """Make the database agree with a folder's files."""
        rows = connection.execute("SELECT path, mtime, size, id FROM files WHERE folder = ?", (folder,))
        known = {path: (mtime, size, number) for path, mtime, size, number in rows}
        gone = [number for path, (_, _, number) in known.items() if path not in files]
        changed = [
            (path, status)
            for path, status in files.items()
            if known.get(path, (None, None))[:2] != (status.st_mtime_ns, status.st_size)
        ]
        gone += [known[path][2] for path, _ in changed if path in known]
        for start in range(0, len(gone), BATCH):
            with _transaction(connection):
                _forget(connection, gone[start : start + BATCH])
        for start in range(0, len(changed), BATCH):
            found = [(path, status, self._text_of(path)) for path, status in changed[start : start + BATCH]]
            with _transaction(connection):
                for path, status, text in found:
                    _add(connection, folder, path, status, text)

    def _text_of(self, path: str) -> str:
        """A file's infotext, "" for none."""
        self.read += 1
        file = self.root / path
        try:
            if path.lower().endswith(VIDEOS):
                from webui.video import read_texts

                return read_texts(file)[0] or ""
            if file.stat().st_size > LARGEST_READ:
                return ""
            with file.open("rb") as opened:
                start = opened.read(HEAD)
                text = read_file_texts(start)[0] if start.startswith(b"\x89PNG") else None
                return text or read_file_texts(start + opened.read())[0] or ""
        except (WebuiError, OSError):
            return ""

    def _forget_folder(self, connection: sqlite3.Connection, folder: str) -> None:
        """Forget a folder and everything below it."""
        below = f"{folder}/"
        inside = (len(below), below)
        rows = connection.execute("SELECT id FROM files WHERE substr(path, 1, ?) = ?", inside)
        numbers = [row[0] for row in rows]
        with _transaction(connection):
            _forget(connection, numbers)
            connection.execute("DELETE FROM folders WHERE path = ? OR substr(path, 1, ?) = ?", (folder, *inside))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _listed(place: Path, folder: str) -> tuple[list[str], dict[str, os.stat_result]]:
    """The folders and the pictures and videos in a folder, links left out; paths below the root."""
    folders: list[str] = []
    files: dict[str, os.stat_result] = {}
    with os.scandir(place) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                path.encode()
                if entry.is_symlink():
                    continue
                if entry.is_dir():
                    if entry.name[0] != "." or path == TRASH:
                        folders.append(path)
                elif entry.name[0] != "." and entry.name.lower().endswith((*PICTURES, *VIDEOS)):
                    files[path] = entry.stat()
            except (OSError, UnicodeEncodeError):
                continue  # gone meanwhile, or a name that no database holds
    return folders, files


def _add(connection: sqlite3.Connection, folder: str, path: str, status: os.stat_result, text: str) -> None:
    parts = path.split("/")
    trashed = parts[0] == TRASH
    below = parts[2:] if trashed else parts  # .trash/<when>/<where it was>
    kind = "video" if path.lower().endswith(VIDEOS) else "image"
    model = str(parse(text, fill_defaults=False, backcompat=False).get("Model") or "") if text else ""
    section = below[0] if len(below) > 1 else ""
    row = (path, folder, section, kind, status.st_mtime_ns, status.st_size, model[:300], trashed)
    number = connection.execute(
        "INSERT INTO files (path, folder, section, kind, mtime, size, model, trashed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    ).lastrowid
    connection.execute("INSERT INTO texts (rowid, name, infotext) VALUES (?, ?, ?)", (number, parts[-1], text))
    loras = {(name, number) for name in _LORA.findall(text)}
    connection.executemany("INSERT INTO loras (name, file) VALUES (?, ?)", loras)


def _forget(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    rows = [(number,) for number in numbers]
    for table, key in (("files", "id"), ("texts", "rowid"), ("loras", "file")):
        connection.executemany(f"DELETE FROM {table} WHERE {key} = ?", rows)
