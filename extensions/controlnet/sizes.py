"""How pictures and maps are brought to size: for a preprocessor, and for the picture that is made.

Pictures are (H, W, C) uint8 arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np

Picture = Any
ResizeMode = Literal["Just Resize", "Crop and Resize", "Resize and Fill"]

NETWORK_MULTIPLE = 64
"""Sides that preprocessors see are multiples of this; what was added is cut off again."""


def at_resolution(picture: Picture, resolution: int, work: Callable[[Picture], Picture]) -> Picture:
    """What `work` makes of the picture with a short side of `resolution` pixels, padded to whole multiples of 64."""
    height, width = picture.shape[:2]
    scale = resolution / min(height, width)
    new_height, new_width = round(height * scale), round(width * scale)
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    resized = cv2.resize(picture, (new_width, new_height), interpolation=method)
    missing = ((0, -new_height % NETWORK_MULTIPLE), (0, -new_width % NETWORK_MULTIPLE), (0, 0))
    return work(np.pad(resized, missing, mode="edge"))[:new_height, :new_width]


def pixel_perfect_resolution(picture: Picture, width: int, height: int, mode: ResizeMode) -> int:
    """The resolution at which a map needs no further scaling to serve a picture of width x height pixels."""
    own_height, own_width = picture.shape[:2]
    scales = height / own_height, width / own_width
    scale = min(scales) if mode == "Resize and Fill" else max(scales)
    return round(scale * min(own_height, own_width))


def fit(picture: Picture, width: int, height: int, mode: ResizeMode) -> Picture:
    """The picture at width x height pixels, stretched, cropped, or filled up with the colour of its border."""
    if mode == "Just Resize":
        return resized(picture, width, height)
    own_height, own_width = picture.shape[:2]
    scales = height / own_height, width / own_width
    scale = min(scales) if mode == "Resize and Fill" else max(scales)
    new_width, new_height = round(own_width * scale), round(own_height * scale)
    scaled = resized(picture, new_width, new_height)
    if mode == "Crop and Resize":
        left, top = max(0, (new_width - width) // 2), max(0, (new_height - height) // 2)
        return np.ascontiguousarray(scaled[top : top + height, left : left + width])
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    canvas = np.tile(np.median(border, axis=0).astype(picture.dtype), (height, width, 1))
    left, top = max(0, (width - new_width) // 2), max(0, (height - new_height) // 2)
    canvas[top : top + new_height, left : left + new_width] = scaled
    return canvas


def resized(picture: Picture, width: int, height: int) -> Picture:
    """The picture at width x height pixels, by a method that keeps what kind of map it is.

    A few colours (a segmentation) stay those colours, two-coloured maps stay two-coloured, thin lines stay thin.
    """
    if picture.shape[:2] == (height, width):
        return picture
    if picture.shape[2] == 4:  # the mask of an inpainting map keeps to its own kind
        colors, alpha = resized(picture[:, :, :3], width, height), resized(picture[:, :, 3:].repeat(3, 2), width, height)
        return np.concatenate([colors, alpha[:, :, :1]], axis=2)
    kinds = len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0))
    is_binary = kinds == 2 and picture.min() < 16 and picture.max() > 240
    if 2 < kinds < 200:
        method = cv2.INTER_NEAREST
    elif height * width < picture.shape[0] * picture.shape[1]:
        method = cv2.INTER_AREA
    else:
        method = cv2.INTER_CUBIC
    scaled = cv2.resize(picture, (width, height), interpolation=method)
    if not is_binary:
        return scaled
    grey = np.mean(scaled.astype(np.float32), axis=2).clip(0, 255).astype(np.uint8)
    _, halves = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if _is_drawn_thinly(picture):
        halves = thinned(halves)
    return np.repeat(halves[:, :, None], 3, axis=2)


def _is_drawn_thinly(picture: Picture) -> bool:
    """Whether most white pixels of a black and white map are lines a pixel wide."""
    opened = cv2.morphologyEx(picture, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return bool((picture > opened).sum() * 2 > (picture > 127).sum())


def thinned(lines: Picture) -> Picture:
    """(H, W) of 0 and 255, its lines a pixel wide. Source: Zhang and Suen 1984, by scikit-image."""
    from skimage.morphology import skeletonize

    return skeletonize(lines > 127).astype(np.uint8) * 255


def generation_size(width: float, height: float) -> tuple[int, int]:
    """Pixels of the map for a picture of width x height: whole multiples of the latent's 8."""
    return math.floor(width / 8) * 8, math.floor(height / 8) * 8
