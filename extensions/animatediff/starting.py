"""img2img: how much of the first and of the last picture each frame begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from webui.extensions.api import decoded_picture, fit_picture

from .parameters import AnimateDiff


def fading(count: int, power: float, scale: float) -> list[float]:
    """How much of its picture each frame keeps: all at the first one, then less."""
    return [max(0.0, 1 - frame**power / scale) for frame in range(count)]


def shares(count: int, asked: AnimateDiff) -> tuple[Sequence[float], Sequence[float]]:
    """Of the first and of the last picture in each frame; noise is the rest."""
    first = fading(count, asked.latent_power, asked.latent_scale)
    if asked.last_frame is None:
        return first, [0.0] * count
    last = fading(count, asked.latent_power_last, asked.latent_scale_last)[::-1]
    sums = [max(a + b, 1) for a, b in zip(first, last, strict=True)]
    first = [a / total for a, total in zip(first, sums, strict=True)]
    last = [b / total for b, total in zip(last, sums, strict=True)]
    first[0], last[0], first[-1], last[-1] = 1.0, 0.0, 0.0, 1.0
    return first, last


def started(start: Tensor, noise: Tensor, asked: AnimateDiff, this_pass: Any) -> Tensor:
    """What img2img begins with: (F, C, h, w) clean latents. start: those of the first picture, noise: of each frame."""
    first, last = (torch.tensor(share).view(-1, 1, 1, 1).to(start) for share in shares(len(start), asked))
    mixed = start * first + noise.to(start) * (1 - first - last)
    if asked.last_frame is not None:
        mixed = mixed + encoded(asked.last_frame, this_pass) * last
    return mixed


def encoded(data: bytes, this_pass: Any) -> Tensor:
    """(1, C, h, w) of a picture, brought to size as the first one is."""
    plan, sampling, model = this_pass.plan, this_pass.sampling, this_pass.model
    picture = decoded_picture(data, "The last frame").convert("RGB")
    mode = plan.request.image.resize_mode if plan.request.image else 0
    fitted = fit_picture(picture, mode if mode < 3 else 0, sampling.width, sampling.height)
    pixels = torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    generator = torch.Generator().manual_seed(plan.seeds[this_pass.indices[-1]] % 2**63)
    with torch.inference_mode():
        latent: Tensor = model.encode(pixels.to(model.device), generator).float()
    return latent
