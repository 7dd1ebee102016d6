"""The hook of units with ControlLLLite: what they add to the inputs of a U-Net's attention layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .loading import Base, Network, lent
from .networks.lllite import LLLite, LLLiteNetwork
from .networks.visits import visiting
from .ranges import Ranged
from .steering import Guide
from .unets import size_of_tokens
from .units import CONTROL_FIRST


class Nudging(Ranged):
    """All units of a pass whose networks are ControlLLLite. They act one after the other."""

    def __init__(self, guides: Sequence[Guide], models: Any, base: Base) -> None:
        super().__init__()
        self.guides = guides
        self.models = models
        self.base = base
        self.size = (0, 0)
        """Height and width of the call's latent."""
        self.signs: tuple[int, ...] = ()

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        with ExitStack() as hooks:
            for guide in self.guides:
                lite = hooks.enter_context(lent(guide.unit, self.models, self.base, _as_it_is))
                assert isinstance(lite, LLLiteNetwork)
                hooks.enter_context(visiting(lite, self.base.device))
                for layer, part in zip(lite.layers, lite.parts, strict=True):
                    nudge = _Nudge(self, guide, part)
                    hooks.enter_context(network.get_submodule(layer).register_forward_pre_hook(nudge))
            yield

    def wrap_call(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def nudged(x: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            self.size, self.signs = (x.shape[-2], x.shape[-1]), tuple(row.sign for row in cond.rows)
            return call(x, timesteps, cond)

        return nudged


class _Nudge:
    """A hook on one layer; what the map is read as is kept for the pass."""

    def __init__(self, nudging: Nudging, guide: Guide, part: Any) -> None:
        self.nudging = nudging
        self.guide = guide
        self.part: LLLite = part
        self._read: dict[int, Tensor] = {}

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        nudging, x = self.nudging, args[0]
        guide = self.guide.at(nudging.share)
        if not guide.unit.is_active(nudging.share):
            return None
        tokens = x.shape[1]
        if tokens not in self._read:
            self._read[tokens] = self.part.read(guide.hint, size_of_tokens(nudging.size, tokens))
        added = self.part.added(x, self._read[tokens]) * guide.unit.weight
        if guide.region is not None:
            height, width = size_of_tokens(nudging.size, tokens)
            square = added.transpose(1, 2).unflatten(2, (height, width))
            added = guide.masked(square).flatten(2).transpose(1, 2)
        if guide.unit.control_mode == CONTROL_FIRST:
            signs = torch.tensor([float(sign > 0) for sign in nudging.signs], device=x.device, dtype=x.dtype)
            added = added * signs.view(-1, 1, 1)
        return x + added, *args[1:]


def _as_it_is(network: Network, device: torch.device) -> Network:
    return network
