"""FreeInit: a clip is sampled several times, each time from noise whose slow changes are those of the clip before.

Source: Wu et al. 2023, arXiv:2312.07537. The quick changes are those of the first noise every time, as in the web
extension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .noise import Begun
from .parameters import AnimateDiff


def low_pass(kind: str, shape: tuple[int, int, int], spatial: float, temporal: float) -> Tensor:
    """(T, H, W) in 0..1, how much of each frequency is slow; the middle is the slowest.

    kind: one of `parameters.FILTERS`. spatial, temporal: where slow ends, as a share of the fastest.
    """
    if spatial == 0 or temporal == 0:
        return torch.zeros(shape)
    t, h, w = (2 * torch.arange(size) / size - 1 for size in shape)
    distance = (spatial / temporal * t[:, None, None]) ** 2 + h[:, None] ** 2 + w**2
    if kind == "butterworth":
        return 1 / (1 + (distance / spatial**2) ** 4)
    if kind == "gaussian":
        return torch.exp(-distance / (2 * spatial**2))
    if kind == "ideal":
        return (distance <= 2 * spatial).float()
    box = torch.zeros(shape)
    halves = [round(shape[0] // 2 * temporal), *[round(shape[1] // 2 * spatial)] * 2]
    box[tuple(slice(size // 2 - half, size // 2 + half) for size, half in zip(shape, halves, strict=True))] = 1
    return box


def mixed(slow: Tensor, quick: Tensor, filtered: Tensor) -> Tensor:
    """Slow changes of one noise and quick ones of another. slow, quick: (F, C, h, w). filtered: see `low_pass`."""
    axes = (0, 2, 3)
    kept = filtered[:, None].to(slow.device)
    spectra = [torch.fft.fftshift(torch.fft.fftn(noise.float(), dim=axes), dim=axes) for noise in (slow, quick)]
    spectrum = spectra[0] * kept + spectra[1] * (1 - kept)
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=axes), dim=axes).real


def repeated(sample: Callable[[Any], Tensor], asked: AnimateDiff, job: Any) -> Callable[[Any], Tensor]:
    """Sampling in the place of `sample`: as often as asked for, each time from the clip before."""

    def sampled(parts: Any) -> Tensor:
        first = parts.noise.next()
        noise, rest = first, parts.noise
        alpha = float(parts.table.alphas_cumprod[-1])
        for number in range(asked.freeinit_iters):
            latents = sample(replace(parts, noise=Begun(noise, rest)))
            if not job.completes_pass:
                break
            if number + 1 < asked.freeinit_iters:
                noised = math.sqrt(alpha) * latents + math.sqrt(1 - alpha) * first
                frames, _, height, width = first.shape
                kept = low_pass(asked.freeinit_filter, (frames, height, width), asked.freeinit_ds, asked.freeinit_dt)
                noise = mixed(noised, first, kept)
        return latents

    return sampled
