"""In-between frames: the last two painted pictures, each moved on by the camera, blended from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Kept:
    """A painted picture and the frame up to which it has been moved."""

    picture: Any
    frame: int


def between(start: int, end: int, cadence: int) -> Iterator[tuple[int, float]]:
    """(frame, tween) from start to end: how far the later of the two pictures has come in, up to 1."""
    for place, frame in enumerate(range(start, end), 1):
        yield frame, place / cadence


def moved_to(kept: Kept | None, frame: int, move: Callable[[Any, int], Any]) -> Kept | None:
    """The picture moved by the frame's motion, if it wasn't painted at it."""
    if kept is None or frame <= kept.frame:
        return kept
    return Kept(move(kept.picture, frame), kept.frame)


def mix(earlier: Any, later: Any, tween: float) -> Any:
    """earlier * (1 - tween) + later * tween; uint8."""
    if earlier is None or tween >= 1:
        return later
    return (earlier * (1 - tween) + later * tween).astype(np.uint8)
