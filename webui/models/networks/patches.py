"""Networks on the weights of a loaded model: put on, changed, taken off bit by bit as it was.

A changed layer gets a new Parameter; the original one is kept and put back, so that nothing has to be subtracted and
the file's memory map is never written to. What is on stays on until another set is asked for. In main memory the new
Parameters of sets that are off are kept for a while too: a set that comes back is put on without computing it again.
Low-rank networks on a text encoder's linear layers change no weight: they are computed beside it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import psutil
from torch import nn

from webui.models.devices import free_bytes
from webui.models.families.base import LoadedModel
from webui.models.networks.deltas import Delta
from webui.models.networks.layers import Layer, StandIn
from webui.models.networks.matching import Applied, Strength
from webui.models.networks.names import NameTable, Target
from webui.models.parallel import Cores

RESERVE = 2 << 30
"""Bytes that computing wants on a device beside the weights."""

KEPT_SHARE = 1 / 10
"""Of main memory, for sets of networks that are off."""

Key = tuple[tuple[int, Strength], ...]


@dataclass(frozen=True)
class Kept:
    """A set of networks that is off, with what it made. It holds the networks, so that no other takes their ids."""

    applied: tuple[Applied, ...]
    misfits: Mapping[str, int]
    parts: Mapping[Target, StandIn]

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts.values())


class WeightPatches:
    """The networks on one model's weights. Not for several threads at once: the worker's own.

    misfits: of what is on, network -> how many of its modules didn't fit this model.
    """

    def __init__(self, model: LoadedModel, kept_bytes: int | None = None):
        """kept_bytes: for sets that are off; None for `KEPT_SHARE` in main memory and nothing on other devices."""
        self.table = NameTable(model)
        self.misfits: Mapping[str, int] = {}
        self._device = model.device
        self._cores = Cores(self._device)
        if kept_bytes is None:
            kept_bytes = int(psutil.virtual_memory().total * KEPT_SHARE) if self._device.type == "cpu" else 0
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        """The longest unused first."""
        self._layers: dict[Target, Layer] = {}
        self._active: tuple[Applied, ...] = ()

    @property
    def active(self) -> tuple[Applied, ...]:
        return self._active

    def apply(self, wanted: Sequence[Applied]) -> None:
        """Have exactly these networks on, in this order; nothing is done when they are already.

        A module that a network doesn't fit is left out and counted. An error in between leaves the bare model.
        """
        if _key(wanted) == _key(self._active):
            return
        self._set_aside()
        try:
            known = self._kept.pop(_key(wanted), None)
            if known is None:
                self.misfits = self._compute(wanted)
            else:
                self._put_back(known)
        except BaseException:
            self.remove()
            raise
        self._active = tuple(wanted)

    def remove(self) -> None:
        """Take everything off and keep nothing: each parameter is again the very one it was."""
        for layer in self._layers.values():
            layer.restore()
        self._layers, self._active, self.misfits = {}, (), {}
        self.release()

    def release(self) -> None:
        """Give back the memory of the sets that are off."""
        self._kept.clear()

    def _set_aside(self) -> None:
        """Keep what is on for its next time, as far as memory goes. It stays in place until something else is."""
        if self._active:
            parts = {target: layer.stand_in for target, layer in self._layers.items()}
            self._kept[_key(self._active)] = Kept(self._active, self.misfits, parts)

    def _put_back(self, known: Kept) -> None:
        self._restore_all_but(known.parts)
        for target, part in known.parts.items():
            self._layer(target).put(part)
        self.misfits = known.misfits

    def _compute(self, wanted: Sequence[Applied]) -> Mapping[str, int]:
        """Make a set's parameters and put them in place. Returns: the misfits."""
        plan: dict[Target, list[tuple[Applied, Delta]]] = {}
        for item in wanted:
            for target, delta in item.network.deltas.items():
                if item.strength.of(target):
                    plan.setdefault(target, []).append((item, delta))
        self._restore_all_but(plan)
        stays = self._has_room(plan)
        used = self._make_room(sum(target.weight.nbytes for target in plan))

        def change(target: Target) -> list[str]:
            layer = self._layer(target)
            layer.compute_into(used.pop(target, None))
            misfits = layer.change(plan[target])
            if not stays:
                layer.store_original()
            return misfits

        return dict(Counter(name for names in self._cores.map(change, plan) for name in names))

    def _layer(self, target: Target) -> Layer:
        return self._layers.setdefault(target, Layer(target, self._device))

    def _restore_all_but(self, targets: Container[Target]) -> None:
        for target in [target for target in self._layers if target not in targets]:
            self._layers.pop(target).restore()

    def _make_room(self, needed: int) -> dict[Target, nn.Parameter]:
        """Let go of sets until those that are left are within the limit and `needed` more bytes fit beside them.

        Returns: their parameters, to compute into.
        """
        used: dict[Target, nn.Parameter] = {}
        free = free_bytes(self._device) - RESERVE if self._kept else 0
        size = sum(kept.bytes for kept in self._kept.values())
        while self._kept and (size > self._kept_bytes or free < needed):
            _, oldest = self._kept.popitem(last=False)
            size, free = size - oldest.bytes, free + oldest.bytes
            used |= {target: part.weight for target, part in oldest.parts.items() if part.weight is not None}
        return used

    def _has_room(self, plan: Iterable[Target]) -> bool:
        """Whether the device can hold the originals beside what stands in for them."""
        if self._device.type == "cpu":
            return True
        needed = sum(target.weight.nbytes for target in plan if target not in self._layers)
        return not needed or free_bytes(self._device) > 2 * needed + RESERVE


def _key(items: Sequence[Applied]) -> Key:
    return tuple((id(item.network), item.strength) for item in items)
