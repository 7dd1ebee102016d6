"""How pictures and maps are brought to size: for a preprocessor, and for the picture that is made.

Pictures are (H, W, C) uint8 arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np

from webui.extensions.api import InvalidRequest

Picture = Any
ResizeMode = Literal["Just Resize", "Crop and Resize", "Resize and Fill"]

MOST_PIXELS = 2**26
NETWORK_MULTIPLE = 64
"""Sides that preprocessors see are multiples of this; what was added is cut off again."""


def at_resolution(picture: Picture, resolution: int, work: Callable[[Picture], Picture]) -> Picture:
    """What `work` makes of the picture with a short side of `resolution` pixels, padded to whole multiples of 64."""
    padded, height, width = framed(picture, resolution)
    return np.ascontiguousarray(work(padded)[:height, :width])


def framed(picture: Picture, resolution: int) -> tuple[Picture, int, int]:
    """The picture with a short side of `resolution` pixels, padded to whole multiples of 64; its height and width
    without the padding. Raises: InvalidRequest as `scaled_to`."""
    scaled = scaled_to(picture, resolution)
    height, width = scaled.shape[:2]
    missing = ((0, -height % NETWORK_MULTIPLE), (0, -width % NETWORK_MULTIPLE), (0, 0))
    return np.pad(scaled, missing, mode="edge"), height, width


def scaled_to(picture: Picture, resolution: int) -> Picture:
    """The picture with a short side of `resolution` pixels.

    Raises: InvalidRequest when a narrow picture would grow beyond what fits into memory.
    """
    height, width = picture.shape[:2]
    scale = resolution / min(height, width)
    size = round(width * scale), round(height * scale)
    if size[0] * size[1] > MOST_PIXELS:
        raise InvalidRequest(
            f"A picture of {width} x {height} pixels would have {size[0]} x {size[1]} at the preprocessor's resolution "
            f"of {resolution}: crop it, or choose a lower resolution."
        )
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(picture, size, interpolation=method)


def pixel_perfect_resolution(picture: Picture, width: int, height: int, mode: ResizeMode) -> int:
    """The resolution at which a map needs no further scaling to serve a picture of width x height pixels."""
    own_height, own_width = picture.shape[:2]
    scales = height / own_height, width / own_width
    scale = min(scales) if mode == "Resize and Fill" else max(scales)
    return max(round(scale * min(own_height, own_width)), 1)


def fit(picture: Picture, width: int, height: int, mode: ResizeMode) -> Picture:
    """The picture at width x height pixels, stretched, cropped, or filled up with the colour of its border.

    Raises: InvalidRequest when a narrow picture would grow beyond what fits into memory before it is cut.
    """
    if mode == "Just Resize":
        return resized(picture, width, height)
    own_height, own_width = picture.shape[:2]
    scales = height / own_height, width / own_width
    scale = min(scales) if mode == "Resize and Fill" else max(scales)
    new_width, new_height = max(round(own_width * scale), 1), max(round(own_height * scale), 1)
    if new_width * new_height > MOST_PIXELS:
        raise InvalidRequest(
            f"A map of {own_width} x {own_height} pixels would have {new_width} x {new_height} before it is cut to "
            f"{width} x {height}: crop the picture, or choose Just Resize."
        )
    scaled = resized(picture, new_width, new_height)
    if mode == "Crop and Resize":
        left, top = max(0, (new_width - width) // 2), max(0, (new_height - height) // 2)
        return np.ascontiguousarray(scaled[top : top + height, left : left + width])
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    color = np.median(border, axis=0).astype(picture.dtype)
    if picture.shape[2] == 4:
        color[3] = 255  # what an inpainting map lacks is to be painted
    canvas = np.tile(color, (height, width, 1))
    left, top = max(0, (width - new_width) // 2), max(0, (height - new_height) // 2)
    canvas[top : top + new_height, left : left + new_width] = scaled
    return canvas


def resized(picture: Picture, width: int, height: int) -> Picture:
    """The picture at width x height pixels, by a method that keeps what kind of map it is.

    A few colours (a segmentation) stay those colours, two-coloured maps stay two-coloured, thin lines stay thin.
    """
    if picture.shape[:2] == (height, width):
        return picture
    if picture.shape[2] == 4:  # the mask of an inpainting map goes with its colours
        colors = resized(picture[:, :, :3], width, height)
        method = _method(picture[:, :, :3], width, height)
        mask = cv2.resize(np.ascontiguousarray(picture[:, :, 3]), (width, height), interpolation=method)
        return np.dstack([colors, mask])
    is_binary = _kinds(picture) == 2 and picture.min() < 16 and picture.max() > 240
    scaled = cv2.resize(picture, (width, height), interpolation=_method(picture, width, height))
    if not is_binary:
        return scaled
    grey = np.mean(scaled.astype(np.float32), axis=2).clip(0, 255).astype(np.uint8)
    thin = _is_drawn_thinly(picture)
    _, halves = cv2.threshold(ridges(grey) if thin else grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if thin:
        is_larger = height * width > picture.shape[0] * picture.shape[1]
        halves = thinned(halves, prunes=is_larger)
    return np.repeat(halves[:, :, None], 3, axis=2)


def _kinds(picture: Picture) -> int:
    """How many colours it has."""
    red, green, blue = (picture[:, :, channel].astype(np.int32) for channel in range(3))
    seen = np.zeros(1 << 24, bool)
    seen[red << 16 | green << 8 | blue] = True
    return int(np.count_nonzero(seen))


def _method(picture: Picture, width: int, height: int) -> int:
    if 2 < _kinds(picture) < 200:
        return cv2.INTER_NEAREST
    return cv2.INTER_AREA if height * width < picture.shape[0] * picture.shape[1] else cv2.INTER_CUBIC


def _is_drawn_thinly(picture: Picture) -> bool:
    """Whether most white pixels of a black and white map are lines a pixel wide."""
    opened = cv2.morphologyEx(picture, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return bool((picture > opened).sum() * 2 > (picture > 127).sum())


LINES = [np.array(line, np.uint8).reshape(3, 3) for line in (
    (0, 0, 0, 1, 1, 1, 0, 0, 0), (0, 1, 0, 0, 1, 0, 0, 1, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1), (0, 0, 1, 0, 1, 0, 1, 0, 0),
)]  # fmt: skip


def ridges(grey: Picture) -> Picture:
    """(H, W): the pixels that are the brightest of three along any of four directions, all others black."""
    kept = np.zeros_like(grey)
    for line in LINES:
        np.putmask(kept, cv2.dilate(grey, line) == grey, grey)
    return kept


def _turned(*kernels: tuple[int, ...]) -> list[Picture]:
    """Each kernel in all four directions; 1 wants white, -1 black, 0 takes either."""
    squares = [np.array(kernel, np.int32).reshape(3, 3) for kernel in kernels]
    return [np.rot90(square, k=turns, axes=(0, 1)) for turns in range(4) for square in squares]


THINNING = _turned((-1, -1, -1, 0, 1, 0, 1, 1, 1), (0, -1, -1, 1, 1, -1, 0, 1, 0))
PRUNING = _turned((-1, -1, -1, -1, 1, -1, 0, 0, -1), (-1, -1, -1, -1, 1, -1, -1, 0, 0))
MOST_ROUNDS = 32


def thinned(lines: Picture, *, prunes: bool) -> Picture:
    """(H, W) of 0 and 255, its lines a pixel wide: morphological thinning. prunes: single spurs at ends go, too.

    Source: the structuring elements of Golay 1969, "Hexagonal parallel pattern transformations", on squares.
    """
    lines = lines.copy()
    for _ in range(MOST_ROUNDS):
        if not _cleared(lines, THINNING):
            break
    if prunes:
        _cleared(lines, PRUNING)
    return lines


def _cleared(lines: Picture, kernels: list[Picture]) -> bool:
    """Blacken what each kernel in turn hits; whether any did."""
    changed = False
    for kernel in kernels:
        hits = cv2.morphologyEx(lines, cv2.MORPH_HITMISS, kernel) > 127
        lines[hits] = 0
        changed |= bool(hits.any())
    return changed


def generation_size(width: float, height: float) -> tuple[int, int]:
    """Pixels of the map for a picture of width x height: whole multiples of the latent's 8."""
    return math.floor(width / 8) * 8, math.floor(height / 8) * 8
