"""The colours of quick previews, fitted."""

from __future__ import annotations

import torch

from tools.fit_preview import fitted


def test_a_linear_map_is_found_again() -> None:
    random = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 4, 5, 6, generator=random)
    weights, bias = torch.randn(4, 3, generator=random), torch.randn(3, generator=random)
    small = torch.einsum("bchw,cr->brhw", latents, weights) + bias[None, :, None, None]
    pictures = small.repeat_interleave(8, 2).repeat_interleave(8, 3)
    found, constant, explained = fitted(latents, pictures)
    assert found.allclose(weights, atol=1e-5)
    assert constant.allclose(bias, atol=1e-5)
    assert explained > 0.999
