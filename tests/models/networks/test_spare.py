"""Memory made ready beforehand."""

from __future__ import annotations

import time

import torch
from torch import nn

from webui.models.networks.layers import StandIn
from webui.models.networks.names import Target
from webui.models.networks.spare import SpareMemory


def some_weights() -> dict[Target, nn.Parameter]:
    linear, conv = nn.Linear(5, 3), nn.Conv2d(4, 6, 3).to(torch.bfloat16, memory_format=torch.channels_last)
    return {Target("unet", name, module): module.weight for name, module in (("a", linear), ("b", conv))}


def made(spare: SpareMemory, weights: dict[Target, nn.Parameter]) -> dict[Target, StandIn]:
    """All that is asked for, after as long as it takes."""
    for seconds in (0.01, 0.1, 1.0, 10.0):
        spare.prepare(weights)
        time.sleep(seconds)
        if len(parts := spare.take()) == len(weights):
            return parts
    raise AssertionError("it isn't made")


def test_what_is_made_is_like_the_weights_and_taken_once() -> None:
    weights, spare = some_weights(), SpareMemory()
    parts = made(spare, weights)
    for target, weight in weights.items():
        new = parts[target].weight
        assert new is not None
        assert (new.shape, new.dtype, new.stride()) == (weight.shape, weight.dtype, weight.stride())
        assert new.data_ptr() != weight.data_ptr()
        assert not new.any()
        assert not new.requires_grad
    assert spare.take() == {}


def test_what_is_kept_is_handed_out_and_what_is_dropped_is_gone() -> None:
    weights, spare = some_weights(), SpareMemory()
    parts = made(spare, weights)
    spare.keep(parts)
    assert spare.take() == parts
    spare.keep(parts)
    spare.drop()
    assert spare.take() == {}
