"""A network file's modules on the modules of a model, and how much of them is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from webui.models.networks.deltas import Delta, DoesNotFit, read_delta
from webui.models.networks.files import LoraFile
from webui.models.networks.names import NameTable, Target


@dataclass(frozen=True)
class Strength:
    """How much of a network is used. rank_cut: "dyn", only so many ranks; None for all."""

    text: float = 1.0
    unet: float = 1.0
    rank_cut: int | None = None

    def of(self, target: Target) -> float:
        return self.text if target.is_text else self.unet


@dataclass(frozen=True, eq=False)
class Matched:
    """A file's networks on a model's modules. unmatched: names of modules that the model lacks.

    misfits: names of those whose tensors make no network.
    """

    name: str
    deltas: Mapping[Target, Delta]
    unmatched: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()
    _factors: dict[tuple[Target, torch.dtype], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def factors(self, target: Target, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(out, r) and (r, n) of a low-rank network, columns as the weight has them in memory; kept for next time."""
        known = self._factors.get((target, dtype))
        if known is None:
            delta: Any = self.deltas[target]
            up, down = delta.up.flatten(1), delta.down.flatten(1)
            weight = target.weight
            if is_channels_last(weight):
                down = down.reshape(-1, *weight.shape[1:]).permute(0, 2, 3, 1).reshape(down.shape)
            known = self._factors[target, dtype] = up.to(device, dtype), down.to(device, dtype)
        return known


def match(file: LoraFile, table: NameTable) -> Matched:
    """Find the modules that a file is for."""
    deltas: dict[Target, Delta] = {}
    unmatched, misfits = [], []
    for name, tensors in file.modules.items():
        target = table.find(name, sdxl=file.sdxl)
        if target is None:
            unmatched.append(name)
            continue
        try:
            deltas[target] = read_delta(tensors)
        except DoesNotFit:
            misfits.append(name)
    return Matched(file.name, deltas, tuple(unmatched), tuple(misfits))


@dataclass(frozen=True)
class Applied:
    """A network in use."""

    network: Matched
    strength: Strength


def is_channels_last(weight: Tensor) -> bool:
    """Whether a convolution's weight lies in memory as (out, kh, kw, in)."""
    return weight.ndim == 4 and not weight.is_contiguous()
