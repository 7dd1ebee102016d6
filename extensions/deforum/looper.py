"""Guided images: pictures that the animation is drawn to at their key frames."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from webui.extensions.api import InvalidRequest

from .schedules import key_frame

FAINT = 0.07
"""How much of a guide is blended in between its waves."""
ALONE = 25
"""The distance of guides, in frames, where a frame doesn't lie between two."""


def guide_places(text: str, frames: int, seed: int) -> dict[int, str]:
    """Path or address of each guide by its frame. text: a JSON object; keys may be formulas. Raises: InvalidRequest."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The guided images (init_images) are no JSON object: {error}.") from error
    if not isinstance(found, dict) or not found or not all(isinstance(value, str) for value in found.values()):
        raise InvalidRequest('The guided images (init_images) must be an object such as {"0": "first.png"}.')
    keyed = {key_frame("init_images", key.strip(), frames, seed): value for key, value in found.items()}
    return dict(sorted((frame, value) for frame, value in keyed.items() if 0 <= frame < frames))


def guide_at(keys: list[int], frame: int) -> int:
    """The key of the guide that rules a frame: the last one that isn't after it, or the first."""
    return max((key for key in keys if key <= frame), default=keys[0])


def guide_share(keys: list[int], frame: int, tween: float, most: float, slope: float) -> float:
    """How much of the guide is blended into the picture at a frame, 0 to 1."""
    following = min((key for key in keys if key > frame), default=None)
    before = max((key for key in keys if key <= frame), default=None)
    distance = ALONE if following is None or before is None else following - before
    if tween <= 0 or frame % distance > tween:
        return FAINT
    return min(max(most - slope * math.cos((frame % tween) / (tween / 2)), 0.0), 1.0)


def blend(first: Any, second: Any, share: float) -> Any:
    """(1 - share) * first + share * second, cut off to whole numbers; uint8."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.blend(Image.fromarray(first), Image.fromarray(second), share))


def guide_for(guides: Mapping[int, Any], frame: int) -> Any:
    return guides[guide_at(sorted(guides), frame)]
