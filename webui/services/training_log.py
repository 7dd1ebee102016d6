"""What a training has written into its log so far: for the curves on the Train tab."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from webui.core.errors import NotFound
from webui.core.training import LOG_COLUMNS, LOG_NAME, TrainingResult
from webui.services.services import Services

MOST_AT_ONCE = 1_000_000
"""Bytes of the log in one answer; the rest is in the next."""


def log_from(services: Services, job_id: str, offset: int = 0) -> dict[str, Any]:
    """The rows of a training's log behind `offset`, a place in its file, and the place to go on from.

    rows: (step, epoch, loss, rate, norm of the gradients), None for what is no number. ended: whether more can come.
    There are none while it waits, for jobs of other kinds, and for one that isn't known (any more).
    """
    try:
        progress = services.jobs.progress(job_id)
    except NotFound:
        return {"rows": [], "offset": offset, "ended": True}
    name = next((name for name in progress.artifacts if Path(name).name == LOG_NAME), "")
    if not name and progress.state == "done":
        result = services.jobs.result(job_id)
        name = result.log if isinstance(result, TrainingResult) else ""
    text = _read(Path(name), offset) if name else b""
    whole = text[: text.rfind(b"\n") + 1]
    rows = [row for line in whole.decode("utf-8", "replace").splitlines() if (row := _row(line))]
    return {"rows": rows, "offset": offset + len(whole), "ended": progress.ended and not whole}


def _read(path: Path, offset: int) -> bytes:
    """b"" where there is nothing yet, or nothing any more."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(MOST_AT_ONCE)
    except OSError:
        return b""


def _row(line: str) -> list[float | None] | None:
    """None for the heading."""
    try:
        numbers = [float(piece) if piece else math.nan for piece in line.split(",")]
    except ValueError:
        return None
    if len(numbers) != len(LOG_COLUMNS):
        return None
    return [number if math.isfinite(number) else None for number in numbers]
