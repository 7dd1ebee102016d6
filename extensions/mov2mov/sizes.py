"""Frames of the video at the size of the results, as img2img's resize modes bring them there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from webui.extensions.api import video as kit

if TYPE_CHECKING:
    from .parameters import ResizeMode, Size


def fit(picture: Any, width: int, height: int, mode: ResizeMode) -> Any:
    """(H, W, 3) uint8 stretched, cut off, or filled up with its border."""
    import numpy as np

    own_height, own_width = picture.shape[:2]
    if mode not in ("Crop and resize", "Resize and fill"):
        return kit.resized(picture, width, height)
    scales = width / own_width, height / own_height
    scale = max(scales) if mode == "Crop and resize" else min(scales)
    scaled = kit.resized(picture, max(round(own_width * scale), 1), max(round(own_height * scale), 1))
    left, top = (scaled.shape[1] - width) // 2, (scaled.shape[0] - height) // 2
    if mode == "Crop and resize":
        return np.ascontiguousarray(scaled[max(top, 0) :, max(left, 0) :][:height, :width])
    above, before = max(-top, 0), max(-left, 0)
    missing = height - scaled.shape[0] - above, width - scaled.shape[1] - before
    return np.pad(scaled, ((above, max(missing[0], 0)), (before, max(missing[1], 0)), (0, 0)), mode="edge")[
        :height, :width
    ]


def scaled_size(source: kit.Video, size: Size) -> tuple[int, int]:
    """Width and height for "resize by": whole multiples of 8, at least 8."""
    sides = (int(side * size.scale) // 8 * 8 for side in (source.width, source.height))
    width, height = (max(side, 8) for side in sides)
    return width, height
