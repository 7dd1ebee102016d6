"""Random numbers: one generator an image, so that a batch equals its images made one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Source(Protocol):
    """A stream of standard normal numbers."""

    def randn(self, shape: tuple[int, ...]) -> Tensor: ...


SEEDS = 2**64
"""Seeds are taken modulo this, as torch takes negative ones."""


class TorchSource:
    """torch's generator of a device, seeded."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed % SEEDS)

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


SMALLEST_SINE = 1e-4
"""Of an angle that a sphere's arc is known for in single precision: parallel and opposite columns have less."""


def slerp(weight: float, low: Tensor, high: Tensor) -> Tensor:
    """Spherical interpolation between two (C, h, w) noises, angle by angle along the height axis.

    Nearly parallel inputs are mixed linearly with the weights the other way round; seeds of old
    pictures depend on it. Columns without an angle between them (of one row, or all zeros) are mixed linearly.
    Source: Shoemake 1985, with A1111's choice of axis.
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
    has_angle = (scale.abs() > SMALLEST_SINE).unsqueeze(1)  # false for NaN, too
    return torch.where(has_angle, mixed, low * (1 - weight) + high * weight)


class BrownianPath:
    """A Brownian motion from `start` to `end` (rounded to six decimals), the same whatever is asked of it and when.

    The interval is halved again and again; a half's increment is that of the whole, bridged by noise with a seed
    of its own, so that any increment follows from `seed` alone.
    shape: of an increment.
    Source: Li et al. 2020, arXiv:2001.01328 (virtual Brownian tree), with seeds as torchsde spawns them.
    """

    def __init__(self, shape: tuple[int, ...], start: float, end: float, seed: int, source: RandomSource) -> None:
        self.shape = shape
        self.seed = seed
        self.source = source
        self._start, self._end = _rounded(start), _rounded(end)
        self._whole = self._drawn(_spawned(seed)) * math.sqrt(end - start)
        self._left: dict[tuple[int, int], Tensor] = {}
        self._touched: dict[tuple[int, int], Tensor] = {}

    def increment(self, start: float, end: float) -> Tensor:
        """(*shape) of the motion from `start` to `end`, a later time; what lies beyond the path's ends is no part."""
        start, end = max(_rounded(start), self._start), min(_rounded(end), self._end)
        if start >= end:
            return torch.zeros_like(self._whole)
        pieces = self._pieces(start, end, self._start, self._end, self._whole, (0, 0))
        total = next(pieces)
        for piece in pieces:
            total = total + piece
        # The next question usually begins where this one ended: what led there is kept.
        self._left, self._touched = self._touched, {}
        return total

    def _pieces(
        self, start: float, end: float, low: float, high: float, whole: Tensor, node: tuple[int, int]
    ) -> Iterator[Tensor]:
        """Increments that add up to that from `start` to `end`, by time.

        whole: the increment from `low` to `high`, the times of tree node (number in its row, row).
        """
        if (start, end) == (low, high):
            yield whole
            return
        middle = _rounded(0.5 * (high + low))
        left = self._left_half(low, middle, high, whole, node)
        number, row = node
        if start < middle:
            yield from self._pieces(start, min(end, middle), low, middle, left, (2 * number, row + 1))
        if end > middle:
            yield from self._pieces(max(start, middle), end, middle, high, whole - left, (2 * number + 1, row + 1))

    def _left_half(self, low: float, middle: float, high: float, whole: Tensor, node: tuple[int, int]) -> Tensor:
        left = self._left.get(node)
        if left is None:
            per_length = 1 / (high - low)
            mean = (middle - low) * whole * per_length
            variance = (middle - low) * (high - middle) * per_length
            left = mean + math.sqrt(variance) * self._drawn(_spawned(self.seed, node))
        self._touched[node] = left
        return left

    def _drawn(self, seed: int) -> Tensor:
        return self.source.seeded(seed).randn(self.shape)


def _spawned(seed: int, node: tuple[int, ...] = ()) -> int:
    """The seed of a node's own noise; of the whole path without a node."""
    return int(np.random.SeedSequence(seed % SEEDS, spawn_key=node, pool_size=24).generate_state(1)[0])


class BrownianNoise:
    """Noise between two levels that is consistent over any way of stepping: one Brownian path an image.

    x: (B, C, h, w), for shape and device. sigma_min, sigma_max: all levels asked for lie between them.
    seeds: one an image, or a single one, whose path is that of all images together.
    """

    def __init__(
        self, x: Tensor, sigma_min: float, sigma_max: float, seeds: Sequence[int], source: RandomSource
    ) -> None:
        assert len(seeds) in (1, len(x)), f"{len(seeds)} seeds for {len(x)} images"
        self._device = x.device
        self._shape = tuple(x.shape)
        shape = (len(x) // len(seeds), *self._shape[1:])
        self._paths = [BrownianPath(shape, sigma_min, sigma_max, seed, source) for seed in seeds]

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """(B, C, h, w) standard normal: the path's increment from `sigma` to `sigma_next` over sqrt of its length."""
        low, high = sorted((sigma, sigma_next))
        sign = 1.0 if sigma < sigma_next else -1.0
        increment = torch.cat([path.increment(low, high) for path in self._paths])
        return (increment * sign / math.sqrt(abs(sigma_next - sigma))).to(self._device)


def path_seed_of_batch(seeds: Sequence[int]) -> int:
    """The seed of the one Brownian path that a whole batch shares in A1111 when batch determinism is switched off.

    There the library draws it from torch's global generator, which the noise of the last image has just seeded.
    """
    drawn: Tensor = torch.randint(0, 2**63 - 1, (), generator=torch.Generator().manual_seed(seeds[-1] % SEEDS))
    return int(drawn)


def _rounded(sigma: float) -> float:
    """A time of the tree, which keeps six decimals."""
    return round(sigma, 6)
