"""Writing files so that a crash leaves either the old content or the new, never half of one."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from webui.core.file_names import cut_to_bytes

log = logging.getLogger(__name__)

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` once the context ends well; see `atomic_path`."""
    with atomic_path(path) as temporary, open(temporary, "w+b") as file:
        yield file


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, for others to write, that takes its place once the context ends well.

    A temporary file in the same folder, fsync, rename, fsync of the folder.
    Raises: OSError (no space, no permission); the old file is untouched then and no temporary is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{cut_to_bytes(path.name, 64)}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sweep_temporaries(folder: Path, before: float) -> None:
    """Delete what an `atomic_file` left in the folder and those below when its process was killed.

    before: seconds since the epoch; what was written later is somebody's at work.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                if _TEMPORARY.fullmatch(name) and path.lstat().st_mtime < before:
                    path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s, half a file of a server that was killed, can't be deleted: %s", path, error.strerror)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; a no-op where folders can't be opened (Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    """The process's umask, read without changing it where the system can tell."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def takes(folder: Path, size: int) -> bool:
    """Whether a file of `size` bytes can be written into the folder now; it is gone afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(0, size, 1 << 20):
                file.write(bytes(1 << 20))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True
