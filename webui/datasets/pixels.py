"""A picture as it is trained on: scaled, cropped, mirrored, its colours varied."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.core.pictures import decoded_picture
from webui.core.training_data import DataFolder
from webui.datasets.buckets import Placement, Size

Pixels: TypeAlias = "NDArray[np.uint8]"
"""(height, width) or (height, width, 3)."""
Focus: TypeAlias = Callable[[Image.Image, Size], Image.Image]
"""`(RGB picture, size) -> the part that matters most`, scaled and cut to that size."""

COLOUR_CHANCE = 0.33
HUE_SHIFT = 8 / 180
"""Of the whole circle, either way."""
GAMMA = (0.95, 1.05)
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True)
class Variation:
    """What was drawn for one use of a picture. hue: share of the circle; gamma: 1 leaves the colours alone.

    focus: crops in place of `crop`.
    """

    crop: Size
    flipped: bool = False
    hue: float = 0.0
    gamma: float = 1.0
    focus: Focus | None = None


@dataclass(frozen=True)
class Prepared:
    """pixels: (height, width, 3). alpha: (height, width), None for an opaque picture."""

    pixels: Pixels
    alpha: Pixels | None


def vary(options: DataFolder, placement: Placement, rng: random.Random, focus: Focus | None = None) -> Variation:
    """Draw what the options leave to chance."""
    x, y = placement.crop
    if options.random_crop:
        x, y = (rng.randint(0, excess) for excess in placement.excess)
        focus = None
    hue, gamma = 0.0, 1.0
    if options.color_aug and rng.random() < COLOUR_CHANCE:
        if rng.random() < 0.5:
            hue = rng.uniform(-HUE_SHIFT, HUE_SHIFT)
        else:
            gamma = rng.uniform(*GAMMA)
    return Variation((x, y), options.flip_aug and rng.random() < 0.5, hue, gamma, focus)


def prepare(
    data: bytes, placement: Placement, variation: Variation, interpolation: str = "", name: str = "The picture"
) -> Prepared:
    """The picture in a file, as it is trained on.

    interpolation: as `resize`. name: for the sentence. Raises: InvalidRequest for a broken picture.
    """
    image = decoded_picture(data, name)
    alpha = np.asarray(image.getchannel("A")) if image.mode == "RGBA" else None
    (x, y), (width, height) = variation.crop, placement.bucket
    if variation.focus is not None:
        pixels, alpha = np.asarray(variation.focus(image.convert("RGB"), placement.bucket)), None
    else:
        scaled = resize(np.asarray(image.convert("RGB")), placement.resized, interpolation)
        pixels = scaled[y : y + height, x : x + width]
    if alpha is not None:
        alpha = resize(alpha, placement.resized, interpolation)[y : y + height, x : x + width]
    if variation.hue:
        pixels = shift_hue(pixels, variation.hue)
    if variation.gamma != 1:
        pixels = np.round(255 * (pixels / 255) ** variation.gamma).astype(np.uint8)
    if variation.flipped:
        pixels, alpha = pixels[:, ::-1], None if alpha is None else alpha[:, ::-1]
    return Prepared(np.ascontiguousarray(pixels), None if alpha is None else np.ascontiguousarray(alpha))


def resize(pixels: Pixels, size: Size, interpolation: str = "") -> Pixels:
    """size: (width, height). interpolation: of `FILTERS`, or "area": each new pixel is the mean of what it covers; ""
    takes the area where the picture shrinks and Lanczos where it grows, as kohya does.
    """
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    shrinks = width > size[0] or height > size[1]
    if interpolation != "area" and (interpolation or not shrinks):
        return np.asarray(Image.fromarray(pixels).resize(size, FILTERS[interpolation or "lanczos"]))
    flat = pixels.reshape(height, -1).astype(np.float32)
    rows = (_coverage(height, size[1]) @ flat).reshape(size[1], width, -1)
    both = np.einsum("ow,hwc->hoc", _coverage(width, size[0]), rows, optimize=True)
    rounded = np.clip(np.rint(both), 0, 255).astype(np.uint8)
    return rounded.reshape(size[1], size[0], *pixels.shape[2:])


def _coverage(source: int, target: int) -> NDArray[np.float32]:
    """(target, source): the share that each source pixel has in each new one."""
    edges = np.arange(target + 1) * (source / target)
    pixels = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.clip(overlap, 0, None)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32)


def shift_hue(pixels: Pixels, share: float) -> Pixels:
    """share: of the circle of hues."""
    hue, saturation, value = Image.fromarray(np.ascontiguousarray(pixels)).convert("HSV").split()
    shifted = (np.asarray(hue).astype(np.int16) + round(share * 256)) % 256
    turned = Image.merge("HSV", (Image.fromarray(shifted.astype(np.uint8)), saturation, value))
    return np.asarray(turned.convert("RGB"))
