"""Which files a visitor may name: what they uploaded, and what the server handed out to them."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from webui.core.errors import Refused, WebuiError

GiB = 2**30
MAX_FILE = GiB
MAX_OF_ONE = 4 * GiB
MAX_OF_ALL = 16 * GiB
MAX_HANDED = 100_000
"""Files remembered as handed out; the oldest are forgotten first."""
DAY = 86_400


class TooMuch(WebuiError):
    """An upload beyond what one visitor, or all together, may leave here."""

    status = 413


class VisitorFiles:
    """The files of every visitor of the page.

    folder: uploads go there, a folder for each visitor. givers: folders that files may be handed out from, this
    one's parent included. open_to_all: folders whose files every visitor may read (--gradio-allowed-path).
    max_of_one, max_of_all: bytes of uploads, of one visitor and of all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        givers: Iterable[Path] = (),
        open_to_all: Iterable[Path] = (),
        max_of_one: int = MAX_OF_ONE,
        max_of_all: int = MAX_OF_ALL,
    ):
        self.folder = folder.resolve()
        self._open_to_all = tuple(root.resolve() for root in open_to_all)
        self._givers = (self.folder.parent, *(root.resolve() for root in givers), *self._open_to_all)
        self._max_of_one = max_of_one
        self._max_of_all = max_of_all
        self._handed: dict[tuple[str, Path], None] = {}
        self._lock = threading.Lock()

    def uploads_of(self, owner: str) -> Path:
        """The folder of one visitor's uploads."""
        return self.folder / owner

    def check_given(self, owner: str, path: str) -> Path:
        """The file that a visitor names in an event or asks for by its address, resolved.

        Raises: Refused, in the same words whether or not there is such a file.
        """
        file = _regular_file(path)
        if file is None or not self._may_use(owner, file):
            raise Refused("This file is not one that you uploaded or were given. Load the picture again.")
        return file

    def hand_out(self, owner: str, path: str) -> None:
        """Let a visitor use a file that an event of theirs returns.

        Raises: Refused for one that lies in no folder from which files are handed out.
        """
        file = _regular_file(path)
        if file is None or not any(file.is_relative_to(root) for root in self._givers):
            raise Refused("A file outside the outputs is not handed out.")
        with self._lock:
            self._handed.pop((owner, file), None)
            self._handed[owner, file] = None
            while len(self._handed) > MAX_HANDED:
                del self._handed[next(iter(self._handed))]

    def handed_to(self, owner: str) -> frozenset[Path]:
        """The files that were handed out to a visitor."""
        with self._lock:
            return frozenset(file for holder, file in self._handed if holder == owner)

    def room_for(self, owner: str) -> int:
        """Bytes that this visitor may still upload; what nobody has used for a day is deleted first.

        Raises: TooMuch when there is no room.
        """
        self._delete_unused()
        own = sum(size for _, size, _ in _files(self.uploads_of(owner)))
        everything = sum(size for _, size, _ in _files(self.folder))
        room = min(self._max_of_one - own, self._max_of_all - everything)
        if room <= 0:
            raise TooMuch(
                "The uploads of this session take all the room they may have. Close the page, or restart Easel, "
                "which deletes them."
            )
        return room

    def sweep(self) -> None:
        """Delete every temporary file, also those of a server that was killed."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _may_use(self, owner: str, file: Path) -> bool:
        if file.is_relative_to(self.uploads_of(owner)):
            os.utime(file)  # in use: not to be deleted for a day
            return True
        return (owner, file) in self._handed or any(file.is_relative_to(root) for root in self._open_to_all)

    def _delete_unused(self) -> None:
        for file, _, used in _files(self.folder):
            if time.time() - used > DAY:
                file.unlink(missing_ok=True)


def _regular_file(path: str) -> Path | None:
    """The file behind an absolute path, links followed; None for anything that isn't a plain file of usual size."""
    if "\0" in path or not os.path.isabs(path):
        return None
    try:
        file = Path(path).resolve(strict=True)
        status = file.lstat()
    except (OSError, RuntimeError, ValueError):
        return None
    return file if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE else None


def _files(folder: Path) -> Iterator[tuple[Path, int, float]]:
    """Path, bytes and last use in seconds of each file below a folder."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            yield path, status.st_size, status.st_mtime
