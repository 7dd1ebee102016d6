"""Random numbers: one generator an image, so that a batch equals its images made one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Source(Protocol):
    """A stream of standard normal numbers."""

    def randn(self, shape: tuple[int, ...]) -> Tensor: ...


class TorchSource:
    """torch's generator of a device, seeded."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)


class PhiloxSource:
    """Philox 4x32-10 with a Box-Muller transform, as CUDA devices draw: the same numbers on any machine.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """

    def __init__(self, seed: int) -> None:
        self.key = (np.uint32(seed & 0xFFFFFFFF), np.uint32((seed >> 32) & 0xFFFFFFFF))
        self.offset = 0

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        counter = np.zeros((4, count), dtype=np.uint32)
        counter[0] = self.offset
        counter[2] = np.arange(count, dtype=np.uint32)
        self.offset += 1
        first, second = _philox_rounds(counter, self.key)[:2]
        two_pow32_inv = np.float32(2.3283064e-10)
        two_pow32_inv_2pi = np.float32(2.3283064e-10 * 6.2831855)
        u = first * two_pow32_inv + two_pow32_inv / 2
        v = second * two_pow32_inv_2pi + two_pow32_inv_2pi / 2
        values = np.sqrt(-2.0 * np.log(u)) * np.sin(v)
        return torch.from_numpy(values.astype(np.float32).reshape(shape))


def _philox_rounds(counter: np.ndarray, key: tuple[np.uint32, np.uint32], rounds: int = 10) -> np.ndarray:
    """The ten rounds of Philox over (4, n) counters."""
    low_key, high_key = np.uint64(key[0]), np.uint64(key[1])
    mask = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = (row.astype(np.uint64) for row in counter)
    for number in range(rounds):
        if number:
            low_key, high_key = (low_key + np.uint64(0x9E3779B9)) & mask, (high_key + np.uint64(0xBB67AE85)) & mask
        product0, product2 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (product2 >> np.uint64(32)) ^ c1 ^ low_key,
            product2 & mask,
            (product0 >> np.uint64(32)) ^ c3 ^ high_key,
            product0 & mask,
        )
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


@dataclass(frozen=True)
class RandomSource:
    """Which generator draws: "GPU" the compute device's, "CPU" the processor's, "NV" Philox on any machine."""

    kind: str
    device: torch.device

    def seeded(self, seed: int) -> Source:
        if self.kind == "NV":
            return PhiloxSource(seed)
        on_device = self.kind == "GPU" and self.device.type not in ("cpu", "mps")
        return TorchSource(seed, self.device if on_device else torch.device("cpu"))


class ImageNoise:
    """The noise of a batch: the starting latent first, then a draw an image for every later call.

    shape: (C, h, w) of one image's latent. seeds: one an image.
    subseeds, strength: a second noise blended in by spherical interpolation.
    resize_from: (h, w) in latent units at which the seed's noise is drawn before it is centred, or None.
    seed_delta: added to the seeds for all draws after the first (ENSD).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        seeds: Sequence[int],
        source: RandomSource,
        *,
        subseeds: Sequence[int] = (),
        strength: float = 0.0,
        resize_from: tuple[int, int] | None = None,
        seed_delta: int = 0,
    ) -> None:
        self.shape = shape
        self.seeds = tuple(seeds)
        self.source = source
        self.subseeds = tuple(subseeds)
        self.strength = strength
        self.drawn_shape = shape if resize_from is None else (shape[0], *resize_from)
        self.seed_delta = seed_delta
        self._streams = [source.seeded(seed) for seed in self.seeds]
        self._is_first = True

    def next(self) -> Tensor:
        """(B, C, h, w) float32 on the compute device."""
        if self._is_first:
            self._is_first = False
            drawn = [self._first(index) for index in range(len(self.seeds))]
            if self.seed_delta:
                self._streams = [self.source.seeded(seed + self.seed_delta) for seed in self.seeds]
        else:
            drawn = [stream.randn(self.shape) for stream in self._streams]
        return torch.stack(drawn).to(self.source.device)

    def _first(self, index: int) -> Tensor:
        seed, stream = self.seeds[index], self._streams[index]
        resized = self.drawn_shape != self.shape
        noise = self.source.seeded(seed).randn(self.drawn_shape) if resized else stream.randn(self.shape)
        if self.subseeds and self.strength:
            variation = self.source.seeded(self.subseeds[index]).randn(self.drawn_shape)
            noise = slerp(self.strength, noise, variation)
        return centred(noise, stream.randn(self.shape)) if resized else noise


def centred(noise: Tensor, canvas: Tensor) -> Tensor:
    """`noise` (C, h0, w0) laid over the middle of `canvas` (C, h, w); what doesn't fit is cut off evenly."""
    (height, width), (canvas_height, canvas_width) = noise.shape[1:], canvas.shape[1:]
    dx, dy = (canvas_width - width) // 2, (canvas_height - height) // 2
    copied_width = width if dx >= 0 else width + 2 * dx
    copied_height = height if dy >= 0 else height + 2 * dy
    to_x, to_y, from_x, from_y = max(dx, 0), max(dy, 0), max(-dx, 0), max(-dy, 0)
    canvas = canvas.clone()
    canvas[:, to_y : to_y + copied_height, to_x : to_x + copied_width] = noise[
        :, from_y : from_y + copied_height, from_x : from_x + copied_width
    ]
    return canvas


def slerp(weight: float, low: Tensor, high: Tensor) -> Tensor:
    """Spherical interpolation between two (C, h, w) noises, angle by angle along the height axis.

    Nearly parallel inputs are mixed linearly with the weights the other way round; seeds of old
    pictures depend on it. Source: Shoemake 1985, with A1111's choice of axis.
    """
    low_unit = low / low.norm(dim=1, keepdim=True)
    high_unit = high / high.norm(dim=1, keepdim=True)
    cosine = (low_unit * high_unit).sum(1)
    if cosine.mean() > 0.9995:
        return low * weight + high * (1 - weight)
    angle = cosine.acos()
    scale = angle.sin()
    from_low = (((1 - weight) * angle).sin() / scale).unsqueeze(1)
    from_high = ((weight * angle).sin() / scale).unsqueeze(1)
    mixed: Tensor = from_low * low + from_high * high
    return mixed


class BrownianNoise:
    """Noise between two levels that is consistent over any way of stepping: one Brownian path an image.

    x: (B, C, h, w), for shape and device. seeds: one an image; the path's randomness.
    Source: Li et al. 2020, arXiv:2001.01328 (virtual Brownian tree), by torchsde.
    """

    def __init__(self, x: Tensor, sigma_min: float, sigma_max: float, seeds: Sequence[int]) -> None:
        import torchsde

        start = torch.zeros_like(x[0], device="cpu", dtype=torch.float32)
        low, high = _rounded(sigma_min), _rounded(sigma_max)
        self._device = x.device
        self._trees = [torchsde.BrownianTree(low, start, high, entropy=seed) for seed in seeds]

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """(B, C, h, w) standard normal: the path's increment from `sigma` to `sigma_next` over sqrt of its length."""
        low, high = sorted((_rounded(sigma), _rounded(sigma_next)))
        sign = 1.0 if sigma < sigma_next else -1.0
        increment = torch.stack([tree(low, high) for tree in self._trees])
        return (increment * (sign / math.sqrt(high - low))).to(self._device)


def _rounded(sigma: float) -> float:
    """A time of the tree, which keeps six decimals; anything finer would lie outside of its ends."""
    return round(sigma, 6)
