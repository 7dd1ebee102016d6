"""Colours and contrast: a picture given the histogram of another one, in the space that was chosen."""

from __future__ import annotations

from typing import Any

import numpy as np


def match_colors(picture: Any, sample: Any, space: str, original_order: bool = False) -> Any:
    """The picture with the sample's histogram in each channel; both (H, W, 3) uint8, BGR.

    space: "RGB", "HSV" or "LAB". original_order: convert as if the pictures were RGB, as old animations were made.
    """
    import cv2

    if space == "RGB":
        return match_histograms(picture, sample)
    order = "RGB" if original_order else "BGR"
    there = getattr(cv2, f"COLOR_{order}2{space}")
    back = getattr(cv2, f"COLOR_{space}2{order}")
    matched = match_histograms(cv2.cvtColor(picture, there), cv2.cvtColor(sample, there))
    return cv2.cvtColor(matched, back)


def match_histograms(picture: Any, sample: Any) -> Any:
    """The picture's values replaced, channel by channel, by those of the sample at the same share of pixels; uint8."""
    matched = np.empty_like(picture)
    for channel in range(picture.shape[-1]):
        ours, theirs = (np.bincount(one[..., channel].ravel(), minlength=256) for one in (picture, sample))
        values = np.flatnonzero(theirs)
        shares, their_shares = np.cumsum(ours) / ours.sum(), np.cumsum(theirs[values]) / theirs.sum()
        matched[..., channel] = np.interp(shares, their_shares, values).astype(np.uint8)[picture[..., channel]]
    return matched


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


def correct_colors(picture: Any, target: Any) -> Any:
    """The picture with the target's colours and its own brightness, as img2img corrects colours; BGR uint8."""
    import cv2

    labs = [cv2.cvtColor(one, cv2.COLOR_BGR2LAB) for one in (picture, target)]
    matched = cv2.cvtColor(match_histograms(*labs), cv2.COLOR_LAB2BGR)
    weights = np.array([0.11, 0.59, 0.3])
    shift = (picture.astype(np.float64) - matched) @ weights
    colours = matched / 255 + shift[..., None] / 255
    light = (colours @ weights)[..., None]
    low, high = colours.min(axis=-1, keepdims=True), colours.max(axis=-1, keepdims=True)
    colours = np.where(low < 0, light + (colours - light) * light / np.maximum(light - low, 1e-9), colours)
    colours = np.where(high > 1, light + (colours - light) * (1 - light) / np.maximum(high - light, 1e-9), colours)
    return np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)
