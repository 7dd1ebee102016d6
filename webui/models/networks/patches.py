"""Networks on the weights of a loaded model: put on, changed, taken off bit by bit as it was.

A changed layer gets a new Parameter; the original one is kept and put back, so that nothing has to be subtracted and
the file's memory map is never written to. What is on stays on until another set is asked for. In main memory the new
Parameters of sets that are off are kept for a while too: a set that comes back is put on without computing it again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from webui.models.devices import free_bytes
from webui.models.families.base import LoadedModel
from webui.models.networks.deltas import Delta, DoesNotFit, LowRank, read_delta
from webui.models.networks.files import LoraFile
from webui.models.networks.names import NameTable, Target

RESERVE = 2 << 30
"""Bytes that computing wants on a device beside the weights."""

KEPT_SHARE = 1 / 10
"""Of main memory, for sets of networks that are off."""

Key = tuple[tuple[int, "Strength"], ...]


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


@dataclass(frozen=True)
class StandIn:
    """What a module computes with in place of its own parameters; None for those that are its own."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    @property
    def bytes(self) -> int:
        return sum(parameter.nbytes for parameter in (self.weight, self.bias) if parameter is not None)


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
        if kept_bytes is None:
            kept_bytes = int(psutil.virtual_memory().total * KEPT_SHARE) if self._device.type == "cpu" else 0
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        """The longest unused first."""
        self._layers: dict[Target, _Layer] = {}
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
        spare = self._make_room(sum(target.weight.nbytes for target in plan))
        misfits: Counter[str] = Counter()
        with torch.no_grad():
            for target, parts in plan.items():
                layer = self._layer(target)
                layer.compute_into(spare.pop(target, None))
                misfits.update(layer.change(parts))
                if not stays:
                    layer.store_original()
        return dict(misfits)

    def _layer(self, target: Target) -> _Layer:
        return self._layers.setdefault(target, _Layer(target, self._device))

    def _restore_all_but(self, targets: Container[Target]) -> None:
        for target in [target for target in self._layers if target not in targets]:
            self._layers.pop(target).restore()

    def _make_room(self, needed: int) -> dict[Target, StandIn]:
        """Let go of sets until those that are left are within the limit and `needed` more bytes fit beside them.

        Returns: what they were made of, to compute into.
        """
        spare: dict[Target, StandIn] = {}
        free = free_bytes(self._device) - RESERVE if self._kept else 0
        size = sum(kept.bytes for kept in self._kept.values())
        while self._kept and (size > self._kept_bytes or free < needed):
            _, oldest = self._kept.popitem(last=False)
            size, free = size - oldest.bytes, free + oldest.bytes
            spare |= oldest.parts
        return spare

    def _has_room(self, plan: Iterable[Target]) -> bool:
        """Whether the device can hold the originals beside what stands in for them."""
        if self._device.type == "cpu":
            return True
        needed = sum(target.weight.nbytes for target in plan if target not in self._layers)
        return not needed or free_bytes(self._device) > 2 * needed + RESERVE


def _key(items: Sequence[Applied]) -> Key:
    return tuple((id(item.network), item.strength) for item in items)


class _Layer:
    """A module that is changed: its own parameters, and those that stand in for them while networks are on.

    device: where to compute, which needn't be where the module is now.
    """

    def __init__(self, target: Target, device: torch.device):
        self.target = target
        self.device = device
        self.weight = target.weight
        self.bias: nn.Parameter | None = getattr(target.module, "bias", None)
        self._new_weight: nn.Parameter | None = None

    @property
    def stand_in(self) -> StandIn:
        """What is in place of its own parameters now."""
        bias: nn.Parameter | None = getattr(self.target.module, "bias", None)
        changed = self.target.weight is not self.weight
        return StandIn(self.target.weight if changed else None, None if bias is self.bias else bias)

    def put(self, part: StandIn) -> None:
        """Have this in place of its own parameters, as it was computed before."""
        self._new_weight = part.weight
        self.target.put(self.weight if part.weight is None else part.weight)
        self._put_bias(self.bias if part.bias is None else part.bias)

    def compute_into(self, spare: StandIn | None) -> None:
        """Leave what is in place as it is: what is computed next goes elsewhere, into `spare` if there is one."""
        self._new_weight = None if spare is None else spare.weight

    def restore(self) -> None:
        """Put the original parameters back, where the module is now."""
        self._bring_home(self.bias)
        self._put_bias(self.bias)
        self._restore_weight()

    def _restore_weight(self) -> None:
        self._bring_home(self.weight)
        self.target.put(self.weight)
        self._new_weight = None

    def _bring_home(self, original: nn.Parameter | None) -> None:
        place = self.target.weight.device
        if original is not None and original.device != place:
            original.data = original.data.to(place)

    def store_original(self) -> None:
        """Move the original weight to main memory while another stands in for it."""
        if self.target.weight is not self.weight:
            self.weight.data = self.weight.data.to("cpu")

    def change(self, parts: Sequence[tuple[Applied, Delta]]) -> list[str]:
        """Compute the parameters from the original ones. Returns: the networks that don't fit."""
        biases = [(item, bias) for item, delta in parts if (bias := delta.of_bias()) is not None]
        misfits = [item.network.name for item, bias in biases if bias.numel() != self.weight.shape[0]]
        self._set_bias([(item, bias) for item, bias in biases if bias.numel() == self.weight.shape[0]])
        plain = [(item, delta) for item, delta in parts if isinstance(delta, LowRank) and self._takes(delta)]
        base = self.weight.to(self.device)
        if len(plain) == len(parts):
            self._add_factors(base, plain)
            return misfits
        changed, count = base.float(), 0
        for item, delta in parts:
            try:
                difference = delta.of_weight(changed, item.strength.rank_cut)
            except DoesNotFit:
                misfits.append(item.network.name)
                continue
            if difference is not None:
                changed = changed + difference * item.strength.of(self.target)
                count += 1
        if count:
            self._set_weight(changed)
        else:
            self._restore_weight()
        return misfits

    def _takes(self, delta: LowRank) -> bool:
        """Whether `_add_factors` can do it."""
        rows, columns = self.weight.shape[0], self.weight[0].numel()
        return delta.is_plain and delta.up.shape[0] == rows and delta.down[0].numel() == columns

    def _add_factors(self, base: Tensor, parts: Sequence[tuple[Applied, LowRank]]) -> None:
        """W + [up_1 up_2 ...] @ [down_1; down_2; ...], all networks in one product.

        On a CPU that computes in bf16 the factors are rounded to it: the sum is in fp32, and what the rounding of
        the factors costs is far below that of W'.
        """
        dtype, new = base.dtype, self._prepared()
        direct = dtype == torch.float32 or (dtype == torch.bfloat16 and self.device.type == "cpu")
        ups, downs, scales = [], [], []
        for item, delta in parts:
            up, down = item.network.factors(self.target, self.device, dtype if direct else torch.float32)
            cut = item.strength.rank_cut
            ups.append(up[:, :cut])
            downs.append(down[:cut])
            scales.append(delta.scale * item.strength.of(self.target))
        same = len(set(scales)) == 1
        if not same:
            ups = [up * scale for up, scale in zip(ups, scales, strict=True)]
        alpha = scales[0] if same else 1.0
        up, down, flat = torch.cat(ups, dim=1), torch.cat(downs), _flat(base)
        if direct and new.device == base.device:
            torch.addmm(flat, up, down, alpha=alpha, out=_flat(new.data))
            self.target.put(new)
        else:
            self._set_weight(_unflat(torch.addmm(flat.to(up.dtype), up, down, alpha=alpha), base))

    def _set_weight(self, value: Tensor) -> None:
        new = self._prepared()
        new.data.copy_(value)
        self.target.put(new)

    def _set_bias(self, parts: Sequence[tuple[Applied, Tensor]]) -> None:
        if not parts:
            self._put_bias(self.bias)
            return
        place = self.target.weight.device
        start = torch.zeros(self.weight.shape[0]) if self.bias is None else self.bias
        bias = start.to(place, torch.float32)
        for item, part in parts:
            bias = bias + part.to(place, torch.float32).flatten() * item.strength.of(self.target)
        dtype = self.weight.dtype if self.bias is None else self.bias.dtype
        self._put_bias(nn.Parameter(bias.to(dtype), requires_grad=False))

    def _put_bias(self, bias: nn.Parameter | None) -> None:
        module: Any = self.target.module
        if getattr(module, "bias", None) is not bias:
            module.bias = bias

    def _prepared(self) -> nn.Parameter:
        """What is to stand in for the weight, where the module is."""
        if self._new_weight is None:
            like = torch.empty_like(self.weight, device=self.target.weight.device)
            self._new_weight = nn.Parameter(like, requires_grad=False)
        return self._new_weight


def _flat(weight: Tensor) -> Tensor:
    """(out, n) view of a weight, columns in the order of memory."""
    moved = weight.permute(0, 2, 3, 1) if is_channels_last(weight) else weight
    return moved.reshape(weight.shape[0], -1)


def _unflat(flat: Tensor, like: Tensor) -> Tensor:
    """Back to a weight's shape."""
    if not is_channels_last(like):
        return flat.reshape(like.shape)
    out, channels, height, width = like.shape
    return flat.reshape(out, height, width, channels).permute(0, 3, 1, 2)


def is_channels_last(weight: Tensor) -> bool:
    """Whether a convolution's weight lies in memory as (out, kh, kw, in)."""
    return weight.ndim == 4 and not weight.is_contiguous()
