"""Outside of the mask the picture stays: the original latent is blended in at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from webui.core.hooks import DenoiserHook, Step
from webui.core.request import SoftInpainting
from webui.pipeline.from_image.soft_inpainting import blended, mask_at_level
from webui.pipeline.from_image.source import Source

if TYPE_CHECKING:
    from webui.core.hooks import Denoise


class KeepOutsideMask(DenoiserHook):
    """Blends the original into every prediction, or, for samplers that count in timesteps, into what is predicted from.

    original: (B, C, h, w) clean latent. mask: (1, 1, h, w) in 0..1, 1 paints anew. soft: blends softly.
    timestep: (sigma, step) -> what the network is told, given for samplers that count in timesteps.
    """

    order = 100

    def __init__(
        self,
        original: Tensor,
        mask: Tensor,
        soft: SoftInpainting | None = None,
        timestep: Callable[[float, Step], float] | None = None,
    ) -> None:
        self.original = original
        self.mask = mask
        self.soft = soft
        self.timestep = timestep

    def wrap_denoiser(self, denoise: Denoise) -> Denoise:
        timestep = self.timestep

        def after(x: Tensor, sigma: float, step: Step) -> Tensor:
            return self._mixed(denoise(x, sigma, step), sigma)

        def before(x: Tensor, sigma: float, step: Step) -> Tensor:
            assert timestep is not None
            scale = math.sqrt(1 + sigma**2)  # to the variance-preserving scale, in which those samplers work
            mixed = self._mixed(x / scale, timestep(sigma, step)) * scale
            return denoise(mixed, sigma, step) + (x - mixed)  # the sampler finds the noise predicted for `mixed`

        return after if timestep is None else before

    def _mixed(self, painted: Tensor, level: float) -> Tensor:
        if self.soft is None:
            return torch.lerp(self.original, painted, self.mask)
        mask = mask_at_level(self.mask, level, self.soft)
        return blended(self.original, painted, mask, self.soft.contrast_boost)


def with_original(latents: Tensor, start: Tensor | None, source: Source | None, soft: SoftInpainting | None) -> Tensor:
    """Sampled latents with `start` in the place that is kept; soft blending has put it there already."""
    if start is None or source is None or source.mask is None or soft is not None:
        return latents
    return torch.lerp(start, latents, source.mask)
