"""Against the blur that warping adds with every frame: an unsharp mask."""

from __future__ import annotations

from typing import Any

import numpy as np


def sharpen(
    picture: Any, amount: float, kernel: int, sigma: float, threshold: float, mask: Any = None, original: bool = False
) -> Any:
    """(1 + amount) * picture - amount * blur, where the two differ by at least the threshold and the mask is white.

    picture: (H, W, 3) uint8. kernel: side of the Gaussian in pixels, made odd. mask: (H, W) of 0 to 1.
    original: a difference below zero counts as 256 more, as in old animations.
    """
    import cv2

    if amount == 0:
        return picture
    kernel = max(1, kernel - 1 + kernel % 2)
    blur = cv2.GaussianBlur(picture, (kernel, kernel), sigma)
    sharp = np.clip(np.round((1 + amount) * picture.astype(np.float64) - amount * blur), 0, 255).astype(np.uint8)
    if threshold > 0:
        difference = picture.astype(np.int16) - blur
        distance = difference % 256 if original else np.abs(difference)
        sharp = np.where(distance < threshold, picture, sharp)
    if mask is not None:
        blended = picture + (sharp.astype(np.float64) - picture) * mask[..., None]
        sharp = np.round(blended).astype(np.uint8)
    return sharp
