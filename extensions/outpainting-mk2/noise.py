"""Noise with the colours and the texture of a picture, for what lies beyond its border.

The picture's spectrum, sharpened by an exponent, shapes the spectrum of random noise, and the noise's histogram is
matched to the picture's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SEED = 0
TAIL = 3.14
"""How fast the noise's window falls from its middle: 1 is as 1 / ((x^2 + 1) (y^2 + 1)) to the power of TAIL / pi."""


def continued(image: Image.Image, mask: Image.Image, exponent: float, colorfulness: float) -> Image.Image:
    """The picture (RGB) with noise of its kind where the mask (L) is white.

    exponent: of the picture's amplitudes. colorfulness: how much the noise's channels differ, 0 to 1.
    """
    pixels = np.asarray(image, np.float64) / 255
    white = (np.asarray(mask, np.float64) / 255)[..., None]
    noise = _matched(_shaped(pixels, white, exponent, colorfulness), pixels, white[..., 0])
    filled = np.clip(pixels * (1 - white) + noise * white, 0, 1)
    return Image.fromarray((filled * 255).astype(np.uint8))


def _shaped(pixels: NDArray[np.float64], white: NDArray[np.float64], exponent: float, colorfulness: float) -> NDArray:
    """Noise (h, w, 3) in [0, 1] by the spectrum of what isn't white."""
    known = pixels * (1 - white)
    known = known / max(known.max(), np.finfo(float).eps) + pixels.mean() * white
    spectrum = _fft(known)
    amplitude = np.abs(spectrum)
    phase = np.divide(spectrum, amplitude, out=np.ones_like(spectrum), where=amplitude > 0)
    random = np.random.default_rng(SEED).random(pixels.shape)
    random = random * colorfulness + random.mean(2, keepdims=True) * (1 - colorfulness)
    smooth = np.real(_ifft(_fft(random) * _window(pixels.shape[:2])[..., None]))
    noise = np.real(_ifft(np.abs(_fft(smooth)) ** 2 * amplitude**exponent * phase))
    noise -= noise.min()
    return noise / max(noise.max(), np.finfo(float).eps)


def _window(shape: tuple[int, int]) -> NDArray[np.float64]:
    """(h, w), highest in the middle; the shorter side spans -1 to 1."""
    rows, columns = ((np.arange(length) / length * 2 - 1) * length / min(shape) for length in shape)
    return np.asarray((1 / ((rows[:, None] ** 2 + 1) * (columns[None] ** 2 + 1))) ** (TAIL / 3.14))


def _matched(noise: NDArray[np.float64], pixels: NDArray[np.float64], white: NDArray[np.float64]) -> NDArray:
    """The noise where there is any white, each channel with the histogram of the pixels where there is none."""
    there, known = white > 1e-6, white < 1e-3
    for channel in range(noise.shape[2]):
        wanted = np.sort(pixels[..., channel][known])
        if not wanted.size:
            continue
        values, places, counts = np.unique(noise[..., channel][there], return_inverse=True, return_counts=True)
        levels, level_counts = np.unique(wanted, return_counts=True)
        quantiles, wanted_quantiles = np.cumsum(counts) / counts.sum(), np.cumsum(level_counts) / wanted.size
        noise[..., channel][there] = np.interp(quantiles, wanted_quantiles, levels)[places]
    return noise


def _fft(data: NDArray) -> NDArray[np.complex128]:
    """(h, w, c) -> its spectra, the lowest frequencies in the middle."""
    return np.fft.fftshift(np.fft.fft2(np.fft.fftshift(data, (0, 1)), axes=(0, 1), norm="ortho"), (0, 1))


def _ifft(data: NDArray) -> NDArray[np.complex128]:
    return np.fft.ifftshift(np.fft.ifft2(np.fft.ifftshift(data, (0, 1)), axes=(0, 1), norm="ortho"), (0, 1))
