"""How the parts of a model share a device that doesn't hold them all, and how its weights are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading, apply_layerwise_casting
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from webui.models.devices import Placement

CPU = torch.device("cpu")
DEEP_ENOUGH = 2
"""A part is woken by calls of itself and of modules this far inside, since encoders are also called in pieces."""
KEPT_WHOLE = ("norm", "time_embedding", "conv_in$", "conv_out$", "pos_embed", "proj_out$")
"""Layers that stay in the dtype they compute in: small ones, and those at the ends, where 8 bits show."""


def arrange(parts: Sequence[nn.Module], placement: Placement) -> InTurn | None:
    """Put a model's parts, loaded on the CPU, where `placement` wants them. Returns: those that take turns there.

    parts: the U-Net first, which is the one that is stored in 8 bits and loaded piecewise.
    """
    unet = parts[0]
    if placement.storage is not None:
        apply_layerwise_casting(
            unet, storage_dtype=placement.storage, compute_dtype=placement.unet, skip_modules_pattern=KEPT_WHOLE
        )
    if placement.sharing == "together":
        move(parts, placement.device)
        return None
    if placement.sharing == "piecewise":
        stream = placement.device.type == "cuda"
        apply_group_offloading(unet, placement.device, CPU, offload_type="leaf_level", use_stream=stream)
        parts = parts[1:]
    return InTurn(parts, placement.device)


def move(parts: Sequence[nn.Module], device: torch.device) -> None:
    for part in parts:
        part.to(device)


class InTurn:
    """Keeps one of several modules on the device: a call brings its module there and sends the one before away."""

    def __init__(self, parts: Sequence[nn.Module], device: torch.device, away: torch.device = CPU) -> None:
        self.device = device
        self.away = away
        self._there: nn.Module | None = None
        for part in parts:
            self._hook(part)

    @contextmanager
    def joined(self, part: nn.Module) -> Iterator[None]:
        """One more module takes turns, until the context ends. It comes from `away` and goes back there."""
        handles = self._hook(part)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            if self._there is part:
                self._there = None
            part.to(self.away)

    def _hook(self, part: nn.Module) -> list[RemovableHandle]:
        waker = self._waker(part)
        return [m.register_forward_pre_hook(waker, prepend=True, with_kwargs=True) for m in _entrances(part)]

    def _waker(self, part: nn.Module) -> Any:
        def wake(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
            if self._there is not part:
                if self._there is not None:
                    self._there.to(self.away)
                part.to(self.device)
                self._there = part
            return tuple(self._brought(arg) for arg in args), {key: self._brought(arg) for key, arg in kwargs.items()}

        return wake

    def _brought(self, argument: Any) -> Any:
        return argument.to(self.device) if isinstance(argument, Tensor) else argument


def _entrances(part: nn.Module) -> Iterator[nn.Module]:
    for name, module in part.named_modules():
        if not name or name.count(".") < DEEP_ENOUGH:
            yield module
