"""A picture read between its pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

PARTS = 32


def read_at(picture: Any, x: Any, y: Any, border: int) -> Any:
    """The picture at (x, y) for each pixel, bilinear between places that are rounded to 1/32 of a pixel.

    x, y: (H, W). border: one of OpenCV's. OpenCV 5 no longer rounds; animations feed every frame back, so one that is
    made again needs the arithmetic of its time.
    """
    import cv2

    fine = np.rint(np.clip(np.stack([x, y], axis=-1) * PARTS, -(2**30), 2**30)).astype(np.int64)
    whole = np.clip(fine // PARTS, -(2**15), 2**15 - 1).astype(np.int16)
    part = (fine[..., 1] % PARTS * PARTS + fine[..., 0] % PARTS).astype(np.uint16)
    return cv2.remap(picture, whole, part, cv2.INTER_LINEAR, borderMode=border)
