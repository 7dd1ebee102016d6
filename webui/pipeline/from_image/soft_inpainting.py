"""Soft inpainting: a soft mask blends latents step by step, and pixels by how much the picture has changed.

The formulas are those of A1111's script of the same name (by CodeHatchling).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter
from torch import Tensor

from webui.core.request import SoftInpainting
from webui.pipeline.from_image.image_input import RESIZE_AND_FILL, fitted
from webui.pipeline.from_image.masks import Box, covered, placed

KERNEL_RADIUS = 2
KERNEL_SPREAD = 1.5
SMOOTHING = 4.0
"""Radius in pixels of the blur that takes the latent grid's steps out of the final mask."""


def mask_at_level(mask: Tensor, level: float, options: SoftInpainting) -> Tensor:
    """The mask at a noise level: the more noise, the less a partly masked place keeps.

    mask: in 0..1. level: sigma, or the timestep for samplers that count in those.
    """
    return mask ** (level**options.schedule_bias * options.preservation)


def blended(original: Tensor, painted: Tensor, mask: Tensor, contrast_boost: float) -> Tensor:
    """The two latents mixed by the mask, each place with the mean of the two vectors' lengths to the power given.

    original, painted: (B, C, h, w). mask: (B or 1, 1, h, w) in 0..1, 1 takes `painted`. Without the correction a mix
    of unlike vectors is shorter than both, which shows as a loss of contrast.
    """
    mixed = original * (1 - mask) + painted * mask
    length = _lengths(mixed) + 1e-5
    powered = _lengths(original) ** contrast_boost * (1 - mask) + _lengths(painted) ** contrast_boost * mask
    return (mixed * (powered ** (1 / contrast_boost) / length)).to(mixed.dtype)


def _lengths(vectors: Tensor) -> Tensor:
    """(B, 1, h, w) float64, which holds large powers."""
    return vectors.norm(dim=1, keepdim=True).double()


def change_masks(
    original: Tensor,
    painted: Tensor,
    mask: Tensor,
    options: SoftInpainting,
    pictures: Sequence[Image.Image],
    size: tuple[int, int],
    box: Box | None,
) -> list[tuple[Image.Image, Image.Image]]:
    """(mask, overlay) of each picture: the original shows where the latent has hardly changed.

    original, painted: (B, C, h, w). mask: (B or 1, 1, h, w) in 0..1. pictures: the originals, RGBA, one an image.
    size: (width, height) of what was painted. box: where in the original that lies, None for everywhere.
    """
    half_way = threshold(mask, options).clamp(min=1e-6).cpu().numpy()
    distances = (painted - original).norm(dim=1).float().cpu().numpy()
    results = []
    for index, (distance, picture) in enumerate(zip(distances, pictures, strict=True)):
        kernel = tapered_gaussian()
        distance = ranked_mean(distance, kernel, 0.9, 1.0)
        distance = ranked_mean(distance, kernel, 0.25, 0.75)
        opacity = 1 - change_opacity(distance / half_way[min(index, len(half_way) - 1)], options.difference_contrast)
        shown = fitted(Image.fromarray((255 * opacity).astype(np.uint8)), RESIZE_AND_FILL, *size)
        shown = shown.filter(ImageFilter.GaussianBlur(SMOOTHING))
        if box is not None:
            shown = placed(shown, picture.size, box).convert("L")
        results.append((shown, covered(picture, shown)))
    return results


def threshold(mask: Tensor, options: SoftInpainting) -> Tensor:
    """(B or 1, h, w): the change of a latent at which the original is half opaque; the mask makes it smaller."""
    kept = 1 - mask[:, 0].clamp(0, 1) ** (options.preservation / 2)
    share = 0.5 * (1 - options.mask_influence) + kept * options.mask_influence
    return options.difference_threshold * share / (1.00001 - share)


def change_opacity(change: np.ndarray, contrast: float) -> np.ndarray:
    """How opaque the original is, 1 at no change, half at 1: a smooth step over 1 / (1 + change^contrast)."""
    with np.errstate(divide="ignore"):
        t = 1 / (1 + change**contrast)
    smooth: np.ndarray = t**3 * (t * (t * 6 - 15) + 10)
    return smooth


def tapered_gaussian() -> np.ndarray:
    """(5, 5) weights exp(-r^2 / 1.5^2), shifted and scaled so that they are 1 in the middle and 0 at r = 3."""
    offset = np.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1)
    squared = offset[:, None] ** 2 + offset[None, :] ** 2
    floor = np.exp(-((KERNEL_RADIUS + 1) ** 2) / KERNEL_SPREAD**2)
    weights = (np.exp(-squared / KERNEL_SPREAD**2) - floor) / (1 - floor)
    return np.asarray(weights.clip(0))


def ranked_mean(values: np.ndarray, kernel: np.ndarray, low: float, high: float) -> np.ndarray:
    """A filter between mean, median and maximum: the mean of the ranks `low` to `high` of each neighbourhood.

    values: (h, w). kernel: odd sided weights; neighbours are sorted by value and laid end to end, each as long as its
    weight, and the part between the two shares of the whole length, at least 1 long, is averaged. What lies
    outside of the picture has no weight.
    """
    radius = kernel.shape[0] // 2
    padded = np.pad(values.astype(np.float64), radius)
    inside = np.pad(np.ones_like(values, dtype=np.float64), radius)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape).reshape(*values.shape, -1)
    present = np.lib.stride_tricks.sliding_window_view(inside, kernel.shape).reshape(*values.shape, -1)
    weights = present * kernel.reshape(-1)
    order = np.argsort(windows, axis=-1, kind="stable")
    windows, weights = np.take_along_axis(windows, order, -1), np.take_along_axis(weights, order, -1)
    ends = weights.cumsum(-1)
    begin, end = _part(ends[..., -1:], low, high)
    overlap = (np.minimum(ends, end) - np.maximum(ends - weights, begin)).clip(0)
    return np.asarray((windows * overlap).sum(-1) / overlap.sum(-1))


def _part(whole: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The stretch between two shares of a length; one shorter than 1 is widened to that and moved inside."""
    begin, end = whole * low, whole * high
    middle, short = (begin + end) / 2, end - begin < 1
    begin, end = np.where(short, middle - 0.5, begin), np.where(short, middle + 0.5, end)
    over = short & (end > whole)
    begin, end = np.where(over, whole - 1, begin), np.where(over, whole, end)
    under = short & (begin < 0)
    return np.where(under, 0, begin), np.where(under, 1, end)
