"""Colours and contrast: a picture given the histogram of another one, in the space that was chosen."""

from __future__ import annotations

from typing import Any

import numpy as np


def match_colors(picture: Any, sample: Any, space: str, original_order: bool = False) -> Any:
    """The picture with the sample's histogram in each channel; both (H, W, 3) uint8, BGR.

    space: "RGB", "HSV" or "LAB". original_order: convert as if the pictures were RGB, as old animations were made.
    """
    import cv2
    from skimage.exposure import match_histograms

    if space == "RGB":
        return match_histograms(picture, sample, channel_axis=-1)
    order = "RGB" if original_order else "BGR"
    there = getattr(cv2, f"COLOR_{order}2{space}")
    back = getattr(cv2, f"COLOR_{space}2{order}")
    matched = match_histograms(cv2.cvtColor(picture, there), cv2.cvtColor(sample, there), channel_axis=-1)
    return cv2.cvtColor(matched, back)


def grayscale(picture: Any) -> Any:
    """Gray in all three channels; BGR."""
    import cv2

    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def scale_contrast(picture: Any, factor: float, original: bool = False) -> Any:
    """The picture times `factor`, cut off at 255. original: values above 255 begin at 0 again, as in old animations."""
    scaled = np.round(picture * factor)
    if original:
        return (scaled.astype(np.int64) % 256).astype(np.uint8)
    return np.clip(scaled, 0, 255).astype(np.uint8)
