"""Names of the files of a run, and from which frame an interrupted one goes on."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from webui.extensions.api import not_saved


@dataclass(frozen=True)
class Resume:
    """earlier, later: the last two painted frames. start: the frame to be painted next."""

    earlier: int
    later: int
    start: int


def timestring(now: datetime) -> str:
    return now.strftime("%Y%m%d%H%M%S")


def frame_name(stamp: str, number: int) -> str:
    return f"{stamp}_{number:09}.png"


def depth_name(stamp: str, number: int) -> str:
    return f"{stamp}_depth_{number:09}.png"


def input_name(stem: str, number: int) -> str:
    return f"{stem}{number:09}.jpg"


def control_name(number: int) -> str:
    return input_name("", number)


def frames_in(folder: Path, stamp: str) -> list[int]:
    """The numbers of the run's frames that lie in the folder, in order."""
    pattern = re.compile(rf"{re.escape(stamp)}_(\d{{9}})\.png")
    found = (pattern.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(match[1]) for match in found if match)


def resume_point(count: int, cadence: int) -> Resume | None:
    """Where a run of `count` frames goes on if nothing but its frames is left; None with fewer than two.

    One painted frame in `cadence` is taken up again, so the last frames of a started group are made anew.
    """
    if count < 2:
        return None
    if cadence == 1:
        return Resume(count - 1, count - 1, count)
    last = count - count % cadence
    if last < cadence:
        return None
    return Resume(last - cadence, last - 1, last)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that takes its place when it is whole. Raises: NotSaved."""
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise not_saved(f"{path.name} can't be saved", error) from error
