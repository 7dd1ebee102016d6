"""Preprocessors that need no weights: a picture in, a control map out, by OpenCV and numpy alone.

Pictures and maps are (H, W, 3) uint8 RGB unless a docstring says otherwise.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from .. import sizes

Picture = Any
"""A numpy array; numpy's own generic types say no more than the docstrings do."""


def canny(picture: Picture, low: float, high: float) -> Picture:
    """Edges of Canny 1986, white on black. low, high: thresholds of the gradient, 1 to 255."""
    return as_rgb(cv2.Canny(picture, low, high))


def invert(picture: Picture) -> Picture:
    return 255 - picture


def binary(picture: Picture, level: float) -> Picture:
    """White where the darkest channel exceeds `level`."""
    return as_rgb(np.where(picture.min(axis=2) > level, 255, 0).astype(np.uint8))


def xdog(picture: Picture, threshold: float) -> Picture:
    """A scribble by the difference of two Gaussians, sigma 0.5 and 5. threshold: 1 to 64, higher draws less.

    Source: Winnemöller et al. 2012, "XDoG: an eXtended difference-of-Gaussians compendium".
    """
    exact = picture.astype(np.float32)
    narrow, wide = (cv2.GaussianBlur(exact, (0, 0), sigma) for sigma in (0.5, 5.0))
    difference = (255 - np.min(wide - narrow, axis=2)).clip(0, 255).astype(np.uint8)
    darkness = 2 * (255 - difference.astype(np.float32))
    return as_rgb(np.where(darkness > threshold, 255, 0).astype(np.uint8))


def standard_lines(picture: Picture) -> Picture:
    """Dark lines on a light ground turned into light ones on black, evened out against their surroundings."""
    exact = picture.astype(np.float32)
    darker = np.min(cv2.GaussianBlur(exact, (0, 0), 6.0) - exact, axis=2).clip(0, 255)
    lines = darker[darker > 8]
    typical = max(16.0, float(np.median(lines)) if lines.size else 0.0)
    return as_rgb((darker / typical * 127).clip(0, 255).astype(np.uint8))


def scribbled(picture: Picture) -> Picture:
    """Soft edges thinned to their ridges and drawn again with a thick pen, in black and white."""
    soft = cv2.GaussianBlur(picture[:, :, 0].astype(np.float32), (0, 0), 3.0)
    lines = np.where(sizes.ridges(soft) > 127, 255, 0).astype(np.uint8)
    return as_rgb(np.where(cv2.GaussianBlur(lines, (0, 0), 3.0) > 4, 255, 0).astype(np.uint8))


def down_sampled(picture: Picture, rate: float) -> Picture:
    """The picture made smaller by `rate`, 1 to 8; below 1.1 it stays as it is."""
    if rate < 1.1:
        return picture
    height, width = picture.shape[:2]
    return cv2.resize(picture, (int(width / rate), int(height / rate)), interpolation=cv2.INTER_AREA)


def blurred(picture: Picture, sigma: float) -> Picture:
    return cv2.GaussianBlur(picture, (0, 0), sigma)


def color_grid(picture: Picture, resolution: int) -> Picture:
    """One colour a square of about 64 pixels, once the short side has `resolution` pixels."""
    scale = resolution / min(picture.shape[:2])
    height, width = (round(side * scale) for side in picture.shape[:2])
    scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    squares = max(width // 64, 1), max(height // 64, 1)
    small = cv2.resize(scaled, squares, interpolation=cv2.INTER_CUBIC)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def luminance(picture: Picture, gamma: float) -> Picture:
    """The lightness of CIELAB, 0 to 1 raised to `gamma`. Models learned it with red and blue exchanged."""
    return _toned(cv2.cvtColor(picture, cv2.COLOR_BGR2LAB)[:, :, 0], gamma)


def intensity(picture: Picture, gamma: float) -> Picture:
    """The value of HSV, 0 to 1 raised to `gamma`."""
    return _toned(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[:, :, 2], gamma)


def _toned(channel: Picture, gamma: float) -> Picture:
    return as_rgb(((channel.astype(np.float32) / 255.0) ** gamma * 255).clip(0, 255).astype(np.uint8))


def shuffled(picture: Picture, random: np.random.RandomState, grain: int = 256) -> Picture:
    """The picture's colours and textures without its layout: each pixel is fetched from a smooth random place.

    grain: how large the places that stay together are, in pixels.
    Source: the content shuffle of ControlNet 1.1 (lllyasviel/ControlNet-v1-1-nightly).
    """
    height, width = picture.shape[:2]
    across = _noise_disk(random, height, width, grain) * (width - 1)
    down = _noise_disk(random, height, width, grain) * (height - 1)
    return cv2.remap(picture, across.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR)


def _noise_disk(random: np.random.RandomState, height: int, width: int, grain: int) -> Picture:
    """(H, W) smooth noise that fills 0 to 1: uniform noise a `grain` apart, enlarged, with its margins cut off."""
    coarse = random.uniform(low=0, high=1, size=((height // grain) + 2, (width // grain) + 2, 1))
    smooth = cv2.resize(coarse, (width + 2 * grain, height + 2 * grain), interpolation=cv2.INTER_CUBIC)
    middle = smooth[grain : grain + height, grain : grain + width]
    middle = middle - middle.min()
    return middle / middle.max()


def as_rgb(channel: Picture) -> Picture:
    """(H, W) to (H, W, 3)."""
    return np.repeat(channel[:, :, None], 3, axis=2)
