"""Noise that is laid over a picture before it is painted again: even, or in Perlin's clouds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Perlin:
    """width, height: cells of the coarsest octave. Each octave halves them and weighs `persistence` of the last."""

    width: int = 8
    height: int = 8
    octaves: int = 4
    persistence: float = 0.5


def add_noise(picture: Any, amount: float, seed: int, perlin: Perlin | None = None, mask: Any = None) -> Any:
    """(H, W, 3) uint8: picture * (1 - amount) + noise * amount.

    amount: 0 to 1. perlin: None is even noise. mask: (H, W) of 0 to 1, how strongly the noise differs from gray.
    """
    import cv2

    height, width = picture.shape[:2]
    noise = gaussian(height, width, seed, perlin)
    if mask is not None:
        noise = noise * mask[..., None]
    pattern = np.clip(255 * (0.5 + 0.5 * noise), 0, 255).astype(np.uint8)
    return cv2.addWeighted(picture, 1 - amount, pattern, amount, 0)


def gaussian(height: int, width: int, seed: int, perlin: Perlin | None = None) -> Any:
    """(H, W, 3) float32 from a generator on the CPU that the frame's seed starts.

    Perlin clouds are made at sides that 64 divides and enlarged, as old animations have them.
    """
    import torch

    generator = torch.Generator().manual_seed(seed % 2**64)
    if perlin is None:
        return torch.randn((3, height, width), generator=generator).permute(1, 2, 0).numpy()
    sides = max(height - height % 64, 64), max(width - width % 64, 64)
    white = torch.randn((3, *sides), generator=generator)
    clouds = (_octaves(sides, perlin, generator) + 1) / 2
    shaped = (white * clouds)[None]
    if sides != (height, width):
        shaped = torch.nn.functional.interpolate(shaped, (height, width), mode="nearest")
    return shaped[0].permute(1, 2, 0).numpy()


def _octaves(sides: tuple[int, int], perlin: Perlin, generator: Any) -> Any:
    import torch

    total = torch.zeros(sides)
    for octave in range(perlin.octaves):
        scale = 2**octave
        cells = perlin.height * scale, perlin.width * scale
        total += perlin.persistence**octave * _gradient_noise(sides, cells, generator)
    return total


def _gradient_noise(sides: tuple[int, int], cells: tuple[int, int], generator: Any) -> Any:
    """Perlin's noise: slopes in random directions at the corners of cells, blended by 6t^5 - 15t^4 + 10t^3.

    Source: Perlin, Improving Noise, SIGGRAPH 2002.
    """
    import torch

    directions = 2 * math.pi * torch.rand(cells[0] + 1, cells[1] + 1, generator=generator)
    slopes = torch.stack([torch.cos(directions), torch.sin(directions)], dim=-1)
    places = [torch.arange(side) * (count / side) for side, count in zip(sides, cells, strict=True)]
    row, column = (place.floor().long() for place in places)
    y, x = places[0] - row, places[1] - column
    values = {}
    for down in (0, 1):
        for right in (0, 1):
            slope = slopes[(row + down)[:, None], (column + right)[None, :]]
            values[down, right] = slope[..., 0] * (y - down)[:, None] + slope[..., 1] * (x - right)[None, :]
    fade_y, fade_x = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y, x))
    upper, lower = (torch.lerp(values[down, 0], values[down, 1], fade_x[None, :]) for down in (0, 1))
    return math.sqrt(2) * torch.lerp(upper, lower, fade_y[:, None])
