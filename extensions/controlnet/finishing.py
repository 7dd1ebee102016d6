"""What some preprocessors do to finished pictures."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

from .maps import Picture, mask_of

BLUR = 7
"""Pixels of the soft border between what was painted and the original."""


def recoloured(picture: Image.Image, found: Picture, preprocessor: str) -> Image.Image:
    """The picture's colours with the lightness, or the value, of the map."""
    there, back, channel = (
        (cv2.COLOR_RGB2LAB, cv2.COLOR_LAB2RGB, 0)
        if preprocessor == "recolor_luminance"
        else (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB, 2)
    )
    parts = cv2.cvtColor(np.asarray(picture.convert("RGB")), there)
    parts[:, :, channel] = found[:, :, 0]
    return Image.fromarray(cv2.cvtColor(parts, back))


def kept_outside(picture: Image.Image, found: Picture) -> Image.Image:
    """The picture inside of the map's mask, the original outside, with a soft border. found: (H, W, 4)."""
    original, mask = found[:, :, :3], mask_of(found)
    mask = cv2.blur(cv2.dilate(mask, np.ones((BLUR, BLUR), np.uint8)), (BLUR, BLUR))[:, :, None]
    painted = np.asarray(picture.convert("RGB")).astype(np.float32)
    mixed: Any = painted * mask + original.astype(np.float32) * (1 - mask)
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
