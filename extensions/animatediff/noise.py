"""The noise of a clip: the levels that motion modules were trained on, and how the frames' own noises go together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .motion.names import Family
from .parameters import FREE_NOISE, MIXED, OWN, SHARED

SDXL_BETAS = 0.00085, 0.020
SD1_BETAS = 0.00085, 0.012
TIMESTEPS = 1000
FREE_NOISE_STRIDE = 4


def alphas_of(family: Family) -> Tensor | None:
    """(1000,) alpha-bar that the motion module was trained on, None for the checkpoint's.

    Those of SD 1.x were trained with even betas, AnimateDiff-SDXL with even square roots of betas up to 0.02.
    """
    if family.betas == "checkpoint":
        return None
    if family.betas == "linear":
        betas = torch.linspace(*SD1_BETAS, TIMESTEPS, dtype=torch.float64)
    else:
        low, high = (beta**0.5 for beta in SDXL_BETAS)
        betas = torch.linspace(low, high, TIMESTEPS, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()


class ClipNoise:
    """The noise of a pass, the first draw changed as the frames' noises go together.

    inner: the pass's own. kind: one of `parameters.NOISES`. size: frames of a context. seed: of FreeNoise's shuffling.
    """

    def __init__(self, inner: Any, kind: str, size: int, seed: int) -> None:
        self.inner = inner
        self.source = inner.source
        self.kind = kind
        self.size = size
        self.seed = seed
        self._is_first = True

    def next(self) -> Tensor:
        noise: Tensor = self.inner.next()
        if not self._is_first:
            return noise
        self._is_first = False
        if self.kind == SHARED:
            return noise[:1].expand_as(noise).clone()
        if self.kind == MIXED:
            return (noise + noise[:1]) / (2 + 2 * (torch.arange(len(noise)) == 0).to(noise).view(-1, 1, 1, 1)).sqrt()
        return reused(noise, self.size, FREE_NOISE_STRIDE, self.seed) if self.kind == FREE_NOISE else noise


def reused(noise: Tensor, size: int, stride: int, seed: int) -> Tensor:
    """(F, C, h, w): beyond the first context the noise of `size` frames before comes again, shuffled by `stride`s.

    Source: Qiu et al. 2023, FreeNoise, arXiv:2310.15169, section 3.2.
    """
    noise, count = noise.clone(), len(noise)
    generator = torch.Generator().manual_seed(seed % 2**63)
    for start in range(size, count, stride):
        earlier = torch.arange(start - size, min(start - size + stride, count))
        shuffled = earlier[torch.randperm(len(earlier), generator=generator)]
        end = min(start + len(shuffled), count)
        noise[start:end] = noise[shuffled[: end - start]]
    return noise


def with_noise(parts: Any, kind: str, size: int, seed: int) -> Any:
    """The pass's parts with the frames' noise as it is asked for."""
    return parts if kind == OWN else replace(parts, noise=ClipNoise(parts.noise, kind, size, seed))


class Begun:
    """Noise that begins with a draw of ours and goes on with another's."""

    def __init__(self, first: Tensor, rest: Any) -> None:
        self.first: Tensor | None = first
        self.rest = rest
        self.source = rest.source

    def next(self) -> Tensor:
        if self.first is None:
            later: Tensor = self.rest.next()
            return later
        first, self.first = self.first, None
        return first
