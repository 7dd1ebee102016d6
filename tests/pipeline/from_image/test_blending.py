"""The hook that keeps what lies outside of the mask."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from webui.core.hooks import Step
from webui.core.request import SoftInpainting
from webui.pipeline.from_image.blending import KeepOutsideMask, with_original
from webui.pipeline.from_image.source import Source

STEP = Step(0, 4, 3.0, 2.0)


def half_mask() -> Tensor:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1
    return mask


def test_predictions_are_the_original_outside_of_the_mask() -> None:
    original, x = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    hook = KeepOutsideMask(original, half_mask())
    x0 = hook.wrap_denoiser(lambda x, sigma, step: x * 0.5)(x, 3.0, STEP)
    assert torch.equal(x0[..., :2], original[..., :2])
    assert torch.equal(x0[..., 2:], x[..., 2:] * 0.5)
    finished = with_original(x, original, Source(original, mask=half_mask()), None)
    assert torch.equal(finished[..., :2], original[..., :2])
    assert torch.equal(finished[..., 2:], x[..., 2:])
    assert with_original(x, original, Source(original), None) is x


def test_timestep_samplers_see_the_original_and_keep_their_own_noise() -> None:
    """The network is asked about a blend in the scale of variance 1; the sampler finds the noise it predicted there."""
    original, x, sigma = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 4, 4), 3.0
    seen: list[Tensor] = []

    def denoise(x: Tensor, sigma: float, step: Step) -> Tensor:
        seen.append(x)
        return x - sigma * 0.25  # a predicted noise of 0.25 everywhere

    hook = KeepOutsideMask(original, half_mask(), timestep=lambda sigma, step: 500.0)
    x0 = hook.wrap_denoiser(denoise)(x, sigma, STEP)
    assert torch.allclose(seen[0][..., :2], original[..., :2] * math.sqrt(1 + sigma**2))
    assert torch.allclose(seen[0][..., 2:], x[..., 2:])
    assert torch.allclose((x - x0) / sigma, torch.full_like(x, 0.25), atol=1e-5)


@pytest.mark.parametrize("timestep", [None, lambda sigma, step: 30.0])
def test_soft_blending_looks_at_the_noise_level_and_keeps_the_end(timestep: object) -> None:
    original, mask = torch.ones(1, 4, 4, 4), torch.full((1, 1, 4, 4), 0.5)
    hook = KeepOutsideMask(original, mask, SoftInpainting(), timestep)  # type: ignore[arg-type]
    denoise = hook.wrap_denoiser(lambda x, sigma, step: torch.full_like(x, 3.0))
    noisy, clean = denoise(original, 30.0, STEP), denoise(original, 0.01, STEP)
    if timestep is None:
        assert torch.allclose(noisy, original, atol=0.01)
        assert (clean > 2.9).all()
    x = torch.randn(1, 4, 4, 4)
    assert with_original(x, original, Source(original, mask=mask), SoftInpainting()) is x
