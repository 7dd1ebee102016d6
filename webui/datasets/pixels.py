"""A picture as it is trained on: scaled, cropped, mirrored, its colours varied."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.core.errors import InvalidRequest
from webui.core.pictures import decoded_picture
from webui.datasets.buckets import Placement, Size
from webui.datasets.folders import Subset

COLOUR_CHANCE = 0.33
HUE_SHIFT = 8 / 180
"""Of the whole circle, either way."""
GAMMA = (0.95, 1.05)


@dataclass(frozen=True)
class Variation:
    """What was drawn for one use of a picture. hue: share of the circle; gamma: 1 leaves the colours alone."""

    crop: Size
    flipped: bool = False
    hue: float = 0.0
    gamma: float = 1.0


@dataclass(frozen=True)
class Prepared:
    """pixels: (height, width, 3) uint8. alpha: (height, width) uint8, None for an opaque picture.

    original: the picture's size, and crop: where its upper left corner lies in the scaled picture, mirrored with it:
    what SDXL is told.
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    original: Size
    crop: Size


def vary(subset: Subset, placement: Placement, rng: random.Random) -> Variation:
    """Draw what the subset's settings leave to chance."""
    x, y = placement.crop
    if subset.random_crop:
        x, y = (rng.randint(0, excess) for excess in placement.excess)
    hue, gamma = 0.0, 1.0
    if subset.colour and rng.random() < COLOUR_CHANCE:
        if rng.random() < 0.5:
            hue = rng.uniform(-HUE_SHIFT, HUE_SHIFT)
        else:
            gamma = rng.uniform(*GAMMA)
    return Variation((x, y), subset.flip and rng.random() < 0.5, hue, gamma)


def prepare(data: bytes, placement: Placement, variation: Variation | None = None, name: str = "The picture") -> Prepared:
    """The picture in a file, as it is trained on.

    variation: None for the middle of the picture, unmirrored. name: for the sentence.
    Raises: InvalidRequest for a broken picture.
    """
    variation = variation or Variation(placement.crop)
    image = decoded_picture(data, name)
    original = image.size
    alpha = np.asarray(image.getchannel("A")) if image.mode == "RGBA" else None
    pixels = resize(np.asarray(image.convert("RGB")), placement.resized)
    (x, y), (width, height) = variation.crop, placement.bucket
    pixels = pixels[y : y + height, x : x + width]
    if alpha is not None:
        alpha = resize(alpha, placement.resized)[y : y + height, x : x + width]
    if variation.hue:
        pixels = shift_hue(pixels, variation.hue)
    if variation.gamma != 1:
        pixels = np.round(255 * (pixels / 255) ** variation.gamma).astype(np.uint8)
    crop = variation.crop
    if variation.flipped:
        pixels, alpha = pixels[:, ::-1], None if alpha is None else alpha[:, ::-1]
        crop = (placement.excess[0] - x, y)
    whole = np.ascontiguousarray(pixels)
    return Prepared(whole, None if alpha is None else np.ascontiguousarray(alpha), original, crop)


def mirrored(variation: Variation) -> Variation:
    """The same drawing, the other way round."""
    return replace(variation, flipped=not variation.flipped)


def resize(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """By the mean of the area that each pixel covers where the picture shrinks, by Lanczos where it grows.

    pixels: (height, width) or (height, width, 3). size: (width, height).
    """
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    if width <= size[0] and height <= size[1]:
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
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


def shift_hue(pixels: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """share: of the circle of hues."""
    hue, saturation, value = Image.fromarray(np.ascontiguousarray(pixels)).convert("HSV").split()
    shifted = (np.asarray(hue).astype(np.int16) + round(share * 256)) % 256
    turned = Image.merge("HSV", (Image.fromarray(shifted.astype(np.uint8)), saturation, value))
    return np.asarray(turned.convert("RGB"))


def require_picture(data: bytes, name: str) -> Size:
    """Decode the picture whole, and return its size. Raises: InvalidRequest naming it."""
    try:
        return decoded_picture(data, name).size
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error}") from error
