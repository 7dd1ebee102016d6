"""Copies of weights made ready beforehand."""

from __future__ import annotations

import time

import torch
from torch import nn

from webui.models.networks.names import Target
from webui.models.networks.spare import SpareMemory

Weights = dict[Target, nn.Parameter]


def some_weights() -> Weights:
    linear, conv = nn.Linear(5, 3), nn.Conv2d(4, 6, 3).to(torch.bfloat16, memory_format=torch.channels_last)
    return {Target("unet", name, module): module.weight for name, module in (("a", linear), ("b", conv))}


def made(spare: SpareMemory, weights: Weights, used: Weights) -> Weights:
    """All that is asked for, after as long as it takes."""
    for seconds in (0.01, 0.1, 1.0, 10.0):
        spare.prepare(weights, used)
        time.sleep(seconds)
        if len(copies := spare.take()) == len(weights):
            return copies
    raise AssertionError("they aren't made")


def check(copies: Weights, weights: Weights) -> None:
    for target, weight in weights.items():
        copy = copies[target]
        assert (copy.shape, copy.dtype, copy.stride()) == (weight.shape, weight.dtype, weight.stride())
        assert copy.data_ptr() != weight.data_ptr()
        assert torch.equal(copy, weight)
        assert not copy.requires_grad


def test_copies_are_like_the_weights_and_taken_once() -> None:
    weights, spare = some_weights(), SpareMemory()
    check(made(spare, weights, {}), weights)
    assert spare.take() == {}


def test_copies_go_into_memory_that_nothing_needs_any_more() -> None:
    weights, spare = some_weights(), SpareMemory()
    used = {target: nn.Parameter(torch.randn_like(weight), requires_grad=False) for target, weight in weights.items()}
    first = next(iter(used))
    places = {first: used[first].data_ptr()}
    copies = made(spare, weights, {first: used[first]})
    check(copies, weights)
    assert copies[first].data_ptr() == places[first]


def test_what_is_dropped_is_gone() -> None:
    spare = SpareMemory()
    spare.prepare(some_weights(), {})
    spare.drop()
    time.sleep(0.05)
    assert spare.take() == {}
