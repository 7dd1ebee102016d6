"""In-between frames: the last two painted pictures, each moved on by the camera, blended from one to the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .flow import along, optical_flow


@dataclass(frozen=True)
class Kept:
    """A painted picture, moved on, and the frame that it was painted for."""

    picture: Any
    frame: int


@dataclass(frozen=True)
class Pair:
    """The pictures that in-betweens are blended from.

    flow: (H, W, 2) from the earlier to the later one, no part of it longer than a pixel, moved on with them; None
    without optical flow, and before there are two pictures.
    """

    later: Kept
    earlier: Kept | None = None
    flow: Any = None


def with_flow(pair: Pair, method: str) -> Pair:
    """The pair with the flow between its pictures, the later one taken half the way back along it."""
    if pair.earlier is None or method == "None":
        return pair
    half = optical_flow(pair.earlier.picture, pair.later.picture, method) / 2
    longest = np.abs(half).max()
    back = replace(pair.later, picture=along(pair.later.picture, half, -1))
    return replace(pair, later=back, flow=half / longest if longest > 0 else half)


def moved_to(pair: Pair, frame: int, share: float, move: Callable[[Any, Any], Any]) -> Pair:
    """The pair with each picture moved by the frame's motion, except one that was painted for it; then along the flow.

    share: how much of the flow. move: an array by the motion, given the picture that it belongs to.
    """
    flow = None if pair.flow is None else move(pair.flow, pair.later.picture)

    def moved(kept: Kept | None) -> Kept | None:
        if kept is None or frame <= kept.frame:
            return kept
        picture = move(kept.picture, kept.picture)
        return replace(kept, picture=picture if flow is None else along(picture, flow, share))

    later = moved(pair.later)
    assert later is not None
    return Pair(later, moved(pair.earlier), flow)


def mix(pair: Pair, tween: float) -> Any:
    """earlier * (1 - tween) + later * tween; uint8."""
    if pair.earlier is None or tween >= 1:
        return pair.later.picture
    return np.rint(pair.earlier.picture * (1 - tween) + pair.later.picture * tween).astype(np.uint8)
