"""Colour correction: a picture takes over the colours of another one, and keeps its own lightness."""

from __future__ import annotations

import numpy as np
from PIL import Image

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], dtype=np.float64
)
_WHITE = np.array([0.950456, 1.0, 1.088754])
_BEND = 0.008856
_LUMINANCE = np.array([0.3, 0.59, 0.11])


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

    Source: IEC 61966-2-1 for sRGB, CIE 15 for L*a*b*, with the white point D65.
    """
    linear = _linear(np.asarray(image.convert("RGB"), dtype=np.float64) / 255)
    relative = linear @ _TO_XYZ.T / _WHITE
    bent = np.where(relative > _BEND, np.cbrt(relative), 7.787 * relative + 16 / 116)
    lightness = np.where(relative[..., 1] > _BEND, 116 * bent[..., 1] - 16, 903.3 * relative[..., 1])
    a, b = 500 * (bent[..., 0] - bent[..., 1]), 200 * (bent[..., 1] - bent[..., 2])
    return _levels(np.stack([lightness * 255 / 100, a + 128, b + 128], axis=-1))


def from_lab(lab: np.ndarray) -> Image.Image:
    """The sRGB picture of an array such as `to_lab` gives; colours outside of sRGB are cut to it."""
    plain = lab.astype(np.float64)
    lightness = plain[..., 0] * 100 / 255
    y = np.where(lightness > 903.3 * _BEND, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    bent_y = np.where(y > _BEND, np.cbrt(y), 7.787 * y + 16 / 116)
    bent = np.stack([bent_y + (plain[..., 1] - 128) / 500, bent_y, bent_y - (plain[..., 2] - 128) / 200], axis=-1)
    relative = np.where(bent > 6 / 29, bent**3, (bent - 16 / 116) / 7.787)
    relative[..., 1] = y
    linear = (relative * _WHITE) @ np.linalg.inv(_TO_XYZ).T
    return Image.fromarray(_levels(_encoded(linear.clip(0, 1)) * 255))


def with_luminosity(colours: Image.Image, brightness: Image.Image) -> Image.Image:
    """Hue and saturation of one picture with the luminosity of another.

    Source: W3C Compositing and Blending Level 1, section 10.2, blend mode "luminosity".
    """
    base = np.asarray(colours.convert("RGB"), dtype=np.float64) / 255
    other = np.asarray(brightness.convert("RGB"), dtype=np.float64) / 255
    moved = base + ((other - base) @ _LUMINANCE)[..., None]
    luminosity = (moved @ _LUMINANCE)[..., None]
    low, high = moved.min(axis=-1, keepdims=True), moved.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(low < 0, luminosity + (moved - luminosity) * luminosity / (luminosity - low), moved)
        shrunk = luminosity + (moved - luminosity) * (1 - luminosity) / (high - luminosity)
        moved = np.where(high > 1, shrunk, moved)
    return Image.fromarray(_levels(moved.clip(0, 1) * 255))


def _linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _encoded(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _levels(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(values).clip(0, 255).astype(np.uint8))
