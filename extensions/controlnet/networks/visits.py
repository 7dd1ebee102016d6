"""Networks that rest in main memory and come to the device for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def visiting(module: nn.Module, device: torch.device) -> Iterator[None]:
    """The module's weights on `device` until the context ends; where they rest they stay, nothing is copied back."""
    weights = [*module.parameters(), *module.buffers()]
    resting = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.to(device, non_blocking=True)
        yield
    finally:
        for weight, data in zip(weights, resting, strict=True):
            weight.data = data
