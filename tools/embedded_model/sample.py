"""A small deterministic sampler, to look at what was learned without the web UI."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor


@torch.no_grad()
def ddim_sample(
    unet: UNet2DConditionModel,
    noise: Tensor,
    cond: Tensor,
    uncond: Tensor,
    alpha_bars: Tensor,
    steps: int,
    cfg_scale: float,
) -> Tensor:
    """DDIM, which is Euler's method for eps-prediction, with classifier-free guidance.

    noise: (B, 4, h, w) of std 1. cond: (B, 77, width). uncond: (1, 77, width).
    Returns: (B, 4, h, w), a clean latent in the UNet's scale.
    """
    times = torch.linspace(len(alpha_bars) - 1, 0, steps + 1).round().long()[:-1]
    both = torch.cat([cond, uncond.expand_as(cond)])
    x = noise
    for i, t in enumerate(times):
        a = float(alpha_bars[t])
        a_next = float(alpha_bars[times[i + 1]]) if i + 1 < steps else 1.0
        eps_cond, eps_uncond = unet(torch.cat([x, x]), t.to(x.device), both).sample.chunk(2)
        eps = eps_uncond + cfg_scale * (eps_cond - eps_uncond)
        x0 = (x - (1 - a) ** 0.5 * eps) / a**0.5
        x = a_next**0.5 * x0 + (1 - a_next) ** 0.5 * eps
    return x
