"""The hook around the U-Net's calls that adds what the units' networks say; imported in the worker only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from webui.extensions.api import InvalidRequest, Residuals

from .correcting import Corrector
from .loading import Base, Network, lent
from .networks.control import ControlNetwork
from .networks.t2i_adapter import T2IAdapter
from .networks.visits import visiting
from .ranges import Ranged
from .units import BALANCED, CONTROL_FIRST, UNION_TYPES, UNKNOWN, Unit

SOFT = 0.825
ADAPTER_SOFT = (0.25, 0.62, 0.825, 1.0)
UNION_TYPE_OF = {
    "OpenPose": "OpenPose", "Depth": "Depth", "SoftEdge": "Soft Edge", "Scribble": "Soft Edge", "Canny": "Hard Edge",
    "Lineart": "Hard Edge", "MLSD": "Hard Edge", "NormalMap": "Normal Map", "Segmentation": "Segmentation",
    "Tile": "Tile", "Inpaint": "Inpaint",
}  # fmt: skip
"""A preprocessor's control type -> what a union network is told when nobody says."""
MAPS_AT_ONCE = 16
LINES = ("canny", "mlsd")
"""Preprocessors whose maps are followed less strictly in the second pass of hires fix."""


@dataclass(frozen=True)
class Guide:
    """A unit ready for a pass. hint: its map, (1, 3, H, W), or one for each frame of a clip. small: the map of the
    first pass, which adapters read.

    region: (1, 1, H, W) in 0..1, where it acts; None for everywhere. corrector: of the network's output, if any.
    turn: (k, n) when it acts on every n-th picture of a batch alone, from the k-th on; None for all.
    """

    unit: Unit
    hint: Tensor
    small: Tensor
    region: Tensor | None
    is_second_pass: bool
    corrector: Corrector | None = None
    turn: tuple[int, int] | None = None

    def at(self, share: float) -> Guide:
        """As the unit's weights are when that share of the steps is behind."""
        unit = self.unit.at(share, is_second_pass=self.is_second_pass)
        if unit is self.unit:
            return self
        corrector = None if self.corrector is None else self.corrector.with_strength(unit.weight)
        return replace(self, unit=unit, corrector=corrector)

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

    def union_kind(self, kinds: int) -> int:
        """The number of the map's kind, for a union network that knows so many. Raises: InvalidRequest."""
        unit = self.unit
        asked = unit.union_control_type
        if asked == UNKNOWN and unit.preprocessor.id != "none":
            asked = next((UNION_TYPE_OF[kind] for kind in unit.preprocessor.types if kind in UNION_TYPE_OF), UNKNOWN)
        number = UNION_TYPES.index(asked) - 1
        if not 0 <= number < kinds:
            known = ", ".join(UNION_TYPES[1 : kinds + 1])
            raise InvalidRequest(
                f"ControlNet: a union model must know the kind of map, and this is "
                f"{'of no known kind' if asked == UNKNOWN else asked}; set its union control type to one of: {known}."
            )
        return number

    def masked(self, residual: Tensor) -> Tensor:
        if self.region is None:
            return residual
        region = F.interpolate(self.region, size=residual.shape[-2:], mode="bilinear").to(residual)
        return residual * region


class Steering(Ranged):
    """All units of a pass whose networks give residuals. They add up, each within its own range of steps."""

    def __init__(self, guides: Sequence[Guide], models: Any, base: Base) -> None:
        super().__init__()
        self.guides = guides
        self.models = models
        self.base = base
        self._workers: list[tuple[Guide, Worker]] = []

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        with ExitStack() as loans:
            self._workers = [
                (guide, loans.enter_context(lent(guide.unit, self.models, self.base, Worker.of)))
                for guide in self.guides
            ]
            try:
                yield
            finally:
                self._workers = []

    def wrap_call(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def steered(x: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            now = [(guide.at(self.share), worker) for guide, worker in self._workers]
            active = [pair for pair in now if pair[0].unit.is_active(self.share)]
            for guide, worker in active:
                cond = cond.adding(of_turn(guide, worker.residuals(guide, x, timesteps, cond), cond))
            output = call(x, timesteps, cond)
            for guide, _ in active:
                if guide.corrector is not None:
                    corrected = guide.corrector.corrected(output, x, timesteps, cond)
                    acts = acting(guide, cond)
                    output = corrected if acts is None else torch.where(acts.to(output.device), corrected, output)
            return output

        return steered


def acting(guide: Guide, cond: Any) -> Tensor | None:
    """(N, 1, 1, 1) bool: which rows are of pictures that the unit acts on; None for all."""
    if guide.turn is None:
        return None
    first, count = guide.turn
    return torch.tensor([row.picture % count == first for row in cond.rows]).view(-1, 1, 1, 1)


def of_turn(guide: Guide, residuals: Residuals, cond: Any) -> Residuals:
    """The residuals for the rows of the pictures that the unit acts on; nothing for the others."""
    acts = acting(guide, cond)
    if acts is None:
        return residuals

    def kept(residual: Tensor) -> Tensor:
        return residual * acts.to(residual)

    mid = None if residuals.mid is None else kept(residuals.mid)
    return Residuals(tuple(map(kept, residuals.down)), mid, tuple(map(kept, residuals.inside)))


class Worker(ABC):
    """A network and what it made of maps, which doesn't change over the steps.

    The network may rest in main memory; then it comes to `device` for each call alone.
    """

    @staticmethod
    def of(network: Network, device: torch.device) -> Worker:
        if isinstance(network, ControlNetwork):
            return ControlWorker(network, network.module, device)
        assert isinstance(network, T2IAdapter), f"{network=} gives no residuals"
        return AdapterWorker(network, network, device)

    def __init__(self, network: Any, module: nn.Module, device: torch.device) -> None:
        self.network = network
        self.module = module
        self.device = device
        self._read: tuple[Tensor, Any] | None = None

    def read(self, hint: Tensor) -> Any:
        if self._read is None or self._read[0] is not hint:
            self._read = hint, self.reading(hint)
        return self._read[1]

    @abstractmethod
    def reading(self, hint: Tensor) -> Any:
        """What the network makes of maps."""

    def residuals(self, guide: Guide, x: Tensor, timesteps: Tensor, cond: Any) -> Residuals:
        """What the unit adds to this call."""
        if next(self.module.parameters()).device == self.device:
            return self.added(guide, x, timesteps, cond)
        with visiting(self.module, self.device):
            return self.added(guide, x, timesteps, cond)

    @abstractmethod
    def added(self, guide: Guide, x: Tensor, timesteps: Tensor, cond: Any) -> Residuals:
        """What the unit adds to this call, with the network on the device."""


class ControlWorker(Worker):
    def reading(self, hint: Tensor) -> Any:
        return torch.cat([self.network.read(part) for part in hint.split(MAPS_AT_ONCE)])

    def added(self, guide: Guide, x: Tensor, timesteps: Tensor, cond: Any) -> Residuals:
        union = self.network.layout.union
        kind = 0 if union is None else guide.union_kind(union.kinds)
        seen = of_rows(self.read(guide.hint), cond)
        found = self.network.residuals(x, timesteps, cond.context, cond.pooled, seen, kind)
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
        parts = [self.network(part) for part in hint.split(MAPS_AT_ONCE)]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def added(self, guide: Guide, x: Tensor, timesteps: Tensor, cond: Any) -> Residuals:
        features = self.read(guide.small)
        scales = guide.adapter_scales(len(features))
        height, width = x.shape[-2:]
        inside = []
        for feature, scale in zip(features, scales, strict=True):
            part = guide.masked(of_rows(feature, cond)) * scale
            if part.shape[-2:] != (height, width):
                part = F.interpolate(part, size=(height, width))
            if guide.unit.control_mode == CONTROL_FIRST:
                part = part * _prompts_only(cond, part)
            inside.append(part.expand(len(x), -1, -1, -1))
            height, width = (height + 1) // 2, (width + 1) // 2
        return Residuals(inside=tuple(inside))


def of_rows(read: Tensor, cond: Any) -> Tensor:
    """What was read of the map of each row's picture; (1, ...) where all have the same."""
    return read if len(read) == 1 else read[[row.picture for row in cond.rows]]


def _prompts_only(cond: Any, like: Tensor) -> Tensor:
    """(N, 1, 1, 1): 1 for rows of prompts, 0 for those of negative prompts."""
    signs = torch.tensor([float(row.sign > 0) for row in cond.rows], device=like.device, dtype=like.dtype)
    return signs.view(-1, 1, 1, 1)
