"""Masks of inpainting: read, blurred, cut out, filled, and the original laid back over what was painted.

A mask is an L picture, 255 where the picture is painted anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from scipy.ndimage import correlate1d

from webui.pipeline.from_image.image_input import CROP_AND_RESIZE, RESIZE_AND_FILL, fitted

FILL_PASSES = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))
"""(radius, times) of the blurred copies that `filled` lays over each other."""


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels; right and bottom lie outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        return self.left, self.top, self.right, self.bottom

    @property
    def size(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top


def read_mask(image: Image.Image, *, rounded: bool) -> Image.Image:
    """The mask in a picture: its alpha channel when that varies (made hard if `rounded`), else its brightness."""
    if image.mode != "RGBA" or image.getextrema()[-1] == (255, 255):
        return image.convert("L")
    alpha = image.getchannel("A")
    return alpha.point(lambda value: 255 if value > 128 else 0) if rounded else alpha


def blurred(mask: Image.Image, x: int, y: int) -> Image.Image:
    """Gaussian blur with standard deviations x and y in pixels, 2.5 of them wide, mirrored at the edges.

    In whole numbers, rounded after each direction, as OpenCV does: pixels near the middle decide what is painted.
    """
    pixels = np.asarray(mask)
    for axis, sigma in ((1, x), (0, y)):
        if sigma > 0:
            sums = correlate1d(pixels.astype(np.int32), gaussian_kernel(sigma), axis=axis, mode="mirror")
            pixels = ((sums + 128) >> 8).astype(np.uint8)
    return Image.fromarray(pixels)


def gaussian_kernel(sigma: float) -> np.ndarray:
    """(2n + 1,) whole numbers of sum 256, n = 2.5 sigma rounded; each weight's rounding error goes to the next."""
    radius = int(2.5 * sigma + 0.5)
    distance = np.arange(-radius, radius + 1)
    exact = np.exp(-(distance**2) / (2 * sigma**2))
    exact *= 256 / exact.sum()
    weights, error = np.zeros(len(exact), dtype=np.int32), 0.0
    for index in range(radius):
        weights[index] = weights[-1 - index] = round(exact[index] + error)
        error += exact[index] - weights[index]
    weights[radius] = 256 - weights.sum()
    return weights


def only_masked_box(mask: Image.Image, padding: int, width: int, height: int) -> Box | None:
    """What is painted of the picture under "Only masked": the mask and its padding, in the ratio width : height.

    None when nothing is masked.
    """
    found = mask.getbbox()
    if found is None:
        return None
    left, top, right, bottom = found
    left, top = max(left - padding, 0), max(top - padding, 0)
    right, bottom = min(right + padding, mask.width), min(bottom + padding, mask.height)
    ratio = width / height
    if (right - left) / (bottom - top) > ratio:
        top, bottom = _widened(top, bottom, (right - left) / ratio, mask.height)
    else:
        left, right = _widened(left, right, (bottom - top) * ratio, mask.width)
    return Box(left, top, right, bottom)


def _widened(low: int, high: int, wanted: float, limit: int) -> tuple[int, int]:
    """The interval made `wanted` long on both sides, moved into 0..limit and cut to it."""
    more = int(wanted - (high - low))
    low, high = low - more // 2, high + more - more // 2
    if high >= limit:
        low, high = low - (high - limit), limit
    if low < 0:
        low, high = 0, high - low
    return low, min(high, limit)


def strengthened(mask: Image.Image) -> Image.Image:
    """The mask with its values doubled: the half transparent rim of a blurred mask shows what was painted."""
    return mask.point(lambda value: min(value * 2, 255))


def covered(image: Image.Image, mask: Image.Image) -> Image.Image:
    """An RGBA picture of what the mask leaves."""
    return _kept(image, mask).convert("RGBA")


def _kept(image: Image.Image, mask: Image.Image) -> Image.Image:
    """What the mask leaves, with colours premultiplied, so that hidden ones don't shine through."""
    kept = Image.new("RGBa", image.size)
    kept.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    return kept


def filled(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The RGB picture with the masked part made of blurred colours from around it, finer ones over coarser ones."""
    kept = _kept(image, mask)
    result = Image.new("RGBA", image.size)
    for radius, times in FILL_PASSES:
        layer = kept.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            result.alpha_composite(layer)
    return result.convert("RGB")


def latent_weights(mask: Image.Image, width: int, height: int, *, rounded: bool) -> np.ndarray:
    """(height, width) float32 in 0..1, 1 where the latent is painted anew. width, height: of the latent."""
    small = np.asarray(mask.convert("RGB").resize((width, height)), dtype=np.float32)[..., 0] / 255
    return np.around(small) if rounded else small


def laid_over(image: Image.Image, overlay: Image.Image, box: Box | None) -> tuple[Image.Image, Image.Image]:
    """(the finished RGB picture, what was painted in its place without the original over it).

    overlay: RGBA of the original's size. box: where the painted picture belongs, None for everywhere.
    """
    painted = image if box is None else placed(image, overlay.size, box)
    finished = painted.convert("RGBA")
    finished.alpha_composite(overlay)
    return finished.convert("RGB"), painted


def placed(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """The picture scaled into a box of an otherwise empty RGBA one."""
    canvas = Image.new("RGBA", size)
    canvas.paste(fitted(image, CROP_AND_RESIZE, *box.size), (box.left, box.top))
    return canvas


def composite(painted: Image.Image, mask: Image.Image) -> Image.Image:
    """What was painted, as RGBA, transparent where the mask is 0."""
    fitting = mask if mask.size == painted.size else fitted(mask, RESIZE_AND_FILL, *painted.size)
    nothing = Image.new("RGBa", painted.size)
    return Image.composite(painted.convert("RGBA").convert("RGBa"), nothing, fitting).convert("RGBA")
