"""One server a data folder: two would write each other's settings and queue."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import IO

from webui.core.errors import WebuiError

log = logging.getLogger(__name__)

NAME = "easel.lock"
PLACE = 1 << 20
"""The byte that is locked on Windows, where what is locked can't be read: far behind the number."""


class DataFolderInUse(WebuiError):
    """Another server works with the folder."""


def lock_data_folder(folder: Path) -> IO[str]:
    """Claim the folder until the file that is returned is closed, or this process ends, however it does.

    Raises: DataFolderInUse naming the process that has it, OSError when the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / NAME).open("a+", encoding="ascii")
    try:
        _lock(file)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        number = file.read().strip() or "unknown"
        file.close()
        raise DataFolderInUse(
            f"another Easel (process {number}) works with {folder} already. Use that one, stop it, or give this one a "
            "folder of its own with --data-dir."
        ) from error
    except OSError as error:  # a file system without locks
        log.warning("%s can't be locked (%s); don't start a second Easel with it.", folder, error)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _lock(file: IO[str]) -> None:
    if os.name == "nt":
        import msvcrt

        file.seek(PLACE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        file.seek(0)
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
