"""The hook around the U-Net's calls that adds what the units' networks say; imported in the worker only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from webui.extensions.api import InvalidRequest, Residuals

from .correcting import Corrector
from .loading import network_of
from .networks.control import ControlNetwork
from .ranges import Ranged
from .units import BALANCED, CONTROL_FIRST, Unit

SOFT = 0.825
ADAPTER_SOFT = (0.25, 0.62, 0.825, 1.0)
LINES = ("canny", "mlsd")
"""Preprocessors whose maps are followed less strictly in the second pass of hires fix."""


@dataclass(frozen=True)
class Guide:
    """A unit ready for a pass. hint: its map, (1, 3, H, W). small: the map of the first pass, which adapters read.

    region: (1, 1, H, W) in 0..1, where it acts; None for everywhere. corrector: of the network's output, if any.
    """

    unit: Unit
    hint: Tensor
    small: Tensor
    region: Tensor | None
    is_second_pass: bool
    corrector: Corrector | None = None

    def scales(self, count: int) -> tuple[float, ...]:
        """How much of each of `count` residuals is added, the middle block's last."""
        unit, weight = self.unit, self.unit.weight
        if unit.weights:
            if len(unit.weights) != count:
                raise InvalidRequest(f"ControlNet: {len(unit.weights)} weights are given, the network has {count}.")
            return unit.weights
        strict = unit.control_mode == BALANCED and not (self.is_second_pass and unit.preprocessor.id in LINES)
        if strict:
            return (weight,) * count
        soft = [SOFT ** (12 - place) for place in range(13)]  # SDXL's ten are the first of SD 1.x's thirteen
        return tuple(weight * share for share in soft[:count])

    def adapter_scales(self, count: int) -> tuple[float, ...]:
        unit = self.unit
        if unit.weights:
            if len(unit.weights) != count:
                raise InvalidRequest(f"ControlNet: {len(unit.weights)} weights are given, the adapter has {count}.")
            return unit.weights
        soft = (1.0,) * count if unit.control_mode == BALANCED else ADAPTER_SOFT[-count:]
        return tuple(unit.weight * share for share in soft)

    def masked(self, residual: Tensor) -> Tensor:
        if self.region is None:
            return residual
        region = F.interpolate(self.region, size=residual.shape[-2:], mode="bilinear").to(residual)
        return residual * region


class Steering(Ranged):
    """All units of a pass. They add up, each within its own range of steps."""

    def __init__(self, guides: Sequence[Guide], this_pass: Any) -> None:
        super().__init__()
        self.guides = guides
        self.models = this_pass.models
        self.model = this_pass.model
        self._workers: list[tuple[Guide, Any]] = []

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        with ExitStack() as loans:
            self._workers = [(guide, loans.enter_context(self._loan(guide, network))) for guide in self.guides]
            try:
                yield
            finally:
                self._workers = []

    def _loan(self, guide: Guide, unet: Any) -> Any:
        path, model = Path(guide.unit.file), self.model
        state = path.stat()
        dtype = torch.float32 if model.dtype is None else model.dtype
        key = ("controlnet", str(path), state.st_mtime_ns, str(model.device), str(dtype), str(model.checkpoint.path))
        return self.models.borrow(
            key, lambda: Worker.of(network_of(path, unet, model.family, model.device, dtype)), bytes=state.st_size
        )

    def wrap_call(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def steered(x: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            active = [pair for pair in self._workers if pair[0].unit.is_active(self.share)]
            for guide, worker in active:
                cond = cond.adding(worker.residuals(guide, x, timesteps, cond))
            output = call(x, timesteps, cond)
            for guide, _ in active:
                if guide.corrector is not None:
                    output = guide.corrector.corrected(output, x, timesteps, cond)
            return output

        return steered


class Worker(ABC):
    """A network and what it made of maps, which doesn't change over the steps."""

    @staticmethod
    def of(network: Any) -> Worker:
        return ControlWorker(network) if isinstance(network, ControlNetwork) else AdapterWorker(network)

    def __init__(self, network: Any) -> None:
        self.network = network
        self._read: tuple[Tensor, Any] | None = None

    def read(self, hint: Tensor) -> Any:
        if self._read is None or self._read[0] is not hint:
            self._read = hint, self.reading(hint)
        return self._read[1]

    @abstractmethod
    def reading(self, hint: Tensor) -> Any:
        """What the network makes of a map."""

    @abstractmethod
    def residuals(self, guide: Guide, x: Tensor, timesteps: Tensor, cond: Any) -> Residuals:
        """What the unit adds to this call."""


class ControlWorker(Worker):
    def reading(self, hint: Tensor) -> Any:
        return self.network.read(hint)

    def residuals(self, guide: Guide, x: Tensor, timesteps: Tensor, cond: Any) -> Residuals:
        found = self.network.residuals(x, timesteps, cond.context, cond.pooled, self.read(guide.hint))
        residuals = [*found.down, found.middle]
        scales = guide.scales(len(residuals))
        sides = _prompts_only(cond, residuals[0]) if self._spares_negative(guide) else 1.0
        shape = [residual.shape for residual in residuals]
        added = [
            (guide.masked(residual) * scale * sides).expand(size)
            for residual, scale, size in zip(residuals, scales, shape, strict=True)
        ]
        return Residuals(tuple(added[:-1]), added[-1])

    def _spares_negative(self, guide: Guide) -> bool:
        return guide.unit.control_mode == CONTROL_FIRST or self.network.pooled


class AdapterWorker(Worker):
    def reading(self, hint: Tensor) -> Any:
        return self.network(hint)

    def residuals(self, guide: Guide, x: Tensor, timesteps: Tensor, cond: Any) -> Residuals:
        features = self.read(guide.small)
        scales = guide.adapter_scales(len(features))
        height, width = x.shape[-2:]
        inside = []
        for feature, scale in zip(features, scales, strict=True):
            part = guide.masked(feature) * scale
            if part.shape[-2:] != (height, width):
                part = F.interpolate(part, size=(height, width))
            if guide.unit.control_mode == CONTROL_FIRST:
                part = part * _prompts_only(cond, part)
            inside.append(part.expand(len(x), -1, -1, -1))
            height, width = (height + 1) // 2, (width + 1) // 2
        return Residuals(inside=tuple(inside))


def _prompts_only(cond: Any, like: Tensor) -> Tensor:
    """(N, 1, 1, 1): 1 for rows of prompts, 0 for those of negative prompts."""
    signs = torch.tensor([float(row.sign > 0) for row in cond.rows], device=like.device, dtype=like.dtype)
    return signs.view(-1, 1, 1, 1)
