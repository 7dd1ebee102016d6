"""Colour correction: a picture takes over the colours of another one, and keeps its own lightness."""

from __future__ import annotations

import numpy as np
from PIL import Image

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], dtype=np.float64
)
_WHITE = np.array([0.950456, 1.0, 1.088754])
_BEND = 216 / 24389
_LUMA = np.array([0.299, 0.587, 0.114])
_LINEAR_BITS, _WEIGHT_BITS, _ROOT_BITS = 3, 12, 15
"""Fractions of a level that linear light, the matrix and the cube roots keep: as many as OpenCV's."""


def corrected(image: Image.Image, target: Image.Image) -> Image.Image:
    """The picture with the colour distribution of `target`, as bright as before. Both RGB; sizes may differ."""
    matched = from_lab(match_histograms(to_lab(image), to_lab(target)))
    return with_luminosity(matched, image)


def match_histograms(source: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8: each channel of `source` changed so that its histogram becomes that of `reference`.

    A value goes to the one with the same share of values below it, fractions cut off.
    Source: Gonzalez and Woods, Digital Image Processing, 3.3.2.
    """
    result = np.empty_like(source)
    for channel in range(source.shape[-1]):
        values, places, counts = np.unique(source[..., channel], return_inverse=True, return_counts=True)
        wanted, wanted_counts = np.unique(reference[..., channel], return_counts=True)
        shares = counts.cumsum() / counts.sum()
        moved = np.interp(shares, wanted_counts.cumsum() / wanted_counts.sum(), wanted)
        assert len(moved) == len(values)
        result[..., channel] = moved[places].reshape(source.shape[:-1])
    return result


def to_lab(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 CIE L*a*b* of an sRGB picture: L as 0..255, a and b shifted by 128.

    In whole numbers of OpenCV's precision: where a picture has few colours, one level moves a whole histogram.
    Source: IEC 61966-2-1 for sRGB, CIE 15 for L*a*b*, with the white point D65.
    """
    rgb = np.asarray(image.convert("RGB"))
    levels = np.arange(256) / 255
    light = _whole(255 * 2**_LINEAR_BITS * _linear(levels))
    relative = np.arange(256 * 3 // 2 * 2**_LINEAR_BITS) / (255 * 2**_LINEAR_BITS)
    roots = _whole(2**_ROOT_BITS * np.where(relative < _BEND, relative * 841 / 108 + 16 / 116, np.cbrt(relative)))
    weights = _whole(2**_WEIGHT_BITS * _TO_XYZ / _WHITE[:, None])
    x, y, z = np.moveaxis(roots[_shifted(light[rgb] @ weights.T, _WEIGHT_BITS)], -1, 0)
    lightness = (116 * 255 + 50) // 100 * y - (16 * 255 * 2**_ROOT_BITS + 50) // 100
    middle = 128 * 2**_ROOT_BITS
    lab = np.stack([lightness, 500 * (x - y) + middle, 200 * (y - z) + middle], axis=-1)
    return np.asarray(_shifted(lab, _ROOT_BITS).clip(0, 255).astype(np.uint8))


def from_lab(lab: np.ndarray) -> Image.Image:
    """The sRGB picture of an array such as `to_lab` gives; colours outside of sRGB are cut to it."""
    plain = lab.astype(np.float64)
    lightness = plain[..., 0] * 100 / 255
    y = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    bent_y = np.where(y > _BEND, np.cbrt(y), 841 / 108 * y + 16 / 116)
    bent = np.stack([bent_y + (plain[..., 1] - 128) / 500, bent_y, bent_y - (plain[..., 2] - 128) / 200], axis=-1)
    relative = np.where(bent > 6 / 29, bent**3, (bent - 16 / 116) * 108 / 841)
    relative[..., 1] = y
    linear = (relative * _WHITE) @ np.linalg.inv(_TO_XYZ).T
    return Image.fromarray(np.rint(_encoded(linear.clip(0, 1)) * 255).astype(np.uint8))


def with_luminosity(colours: Image.Image, brightness: Image.Image) -> Image.Image:
    """Hue and saturation of one picture with the luminosity of another, fractions of a level cut off.

    Source: W3C Compositing and Blending Level 1, section 10.2, blend mode "luminosity", with the weights of BT.601.
    """
    base = np.asarray(colours.convert("RGB"), dtype=np.float64) / 255
    other = np.asarray(brightness.convert("RGB"), dtype=np.float64) / 255
    moved = base + ((other - base) @ _LUMA)[..., None]
    luminosity = (moved @ _LUMA)[..., None]
    low, high = moved.min(axis=-1, keepdims=True), moved.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(low < 0, luminosity + (moved - luminosity) * luminosity / (luminosity - low), moved)
        shrunk = luminosity + (moved - luminosity) * (1 - luminosity) / (high - luminosity)
        moved = np.where(high > 1, shrunk, moved)
    return Image.fromarray((moved.clip(0, 1) * 255).astype(np.uint8))


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _encoded(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _whole(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(values).astype(np.int64))


def _shifted(values: np.ndarray, bits: int) -> np.ndarray:
    """Rounded whole numbers without their last bits."""
    return np.asarray((values + (1 << (bits - 1))) >> bits)
