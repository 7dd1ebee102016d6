"""Networks on the weights of a loaded model: put on, changed, taken off bit by bit as it was.

A changed layer gets a new Parameter; the original one is kept and put back, so that nothing has to be subtracted and
the file's memory map is never written to. What is on stays on until another set is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from webui.models.families.base import LoadedModel
from webui.models.networks.deltas import Delta, DoesNotFit, LowRank, read_delta
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
            weight: Tensor = target.module.weight  # type: ignore[assignment]
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


class WeightPatches:
    """The networks on one model's weights. Not for several threads at once: the worker's own.

    misfits: of what is on, network -> how many of its modules didn't fit this model.
    """

    def __init__(self, model: LoadedModel):
        self.table = NameTable(model)
        self.misfits: Mapping[str, int] = {}
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
        plan: dict[Target, list[tuple[Applied, Delta]]] = {}
        for item in wanted:
            for target, delta in item.network.deltas.items():
                if item.strength.of(target):
                    plan.setdefault(target, []).append((item, delta))
        for target in [target for target in self._layers if target not in plan]:
            self._layers.pop(target).restore()
        misfits: Counter[str] = Counter()
        try:
            with torch.no_grad():
                for target, parts in plan.items():
                    layer = self._layers.setdefault(target, _Layer(target))
                    misfits.update(layer.change(parts))
        except BaseException:
            self.remove()
            raise
        self._active, self.misfits = tuple(wanted), dict(misfits)

    def remove(self) -> None:
        """Take everything off: each parameter is again the very one it was."""
        for layer in self._layers.values():
            layer.restore()
        self._layers, self._active, self.misfits = {}, (), {}


def _key(items: Sequence[Applied]) -> tuple[tuple[int, Strength], ...]:
    return tuple((id(item.network), item.strength) for item in items)


class _Layer:
    """A module that is changed: its own parameters, and those that stand in for them while networks are on."""

    def __init__(self, target: Target):
        self.target = target
        module: Any = target.module
        self.weight: nn.Parameter = module.weight
        self.bias: nn.Parameter | None = getattr(module, "bias", None)
        self._new_weight: nn.Parameter | None = None

    def restore(self) -> None:
        self._follow()
        self.target.module.weight = self.weight
        self._put_bias(self.bias)

    def change(self, parts: Sequence[tuple[Applied, Delta]]) -> list[str]:
        """Compute the parameters from the original ones. Returns: the networks that don't fit."""
        self._follow()
        biases = [(item, bias) for item, delta in parts if (bias := delta.of_bias()) is not None]
        misfits = [item.network.name for item, bias in biases if bias.numel() != self.weight.shape[0]]
        self._set_bias([(item, bias) for item, bias in biases if bias.numel() == self.weight.shape[0]])
        plain = [(item, delta) for item, delta in parts if isinstance(delta, LowRank) and self._takes(delta)]
        if len(plain) == len(parts):
            self._add_factors(plain)
            return misfits
        changed, count = self.weight.float(), 0
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
            self.target.module.weight, self._new_weight = self.weight, None
        return misfits

    def _takes(self, delta: LowRank) -> bool:
        """Whether `_add_factors` can do it."""
        rows, columns = self.weight.shape[0], self.weight[0].numel()
        return delta.is_plain and delta.up.shape[0] == rows and delta.down[0].numel() == columns

    def _follow(self) -> None:
        """Bring the parameters that are not in place to where the module has been moved meanwhile."""
        device = self.target.module.weight.device
        for parameter in (self.weight, self.bias, self._new_weight):
            if parameter is not None and parameter.device != device:
                parameter.data = parameter.data.to(device)  # type: ignore[arg-type]

    def _add_factors(self, parts: Sequence[tuple[Applied, LowRank]]) -> None:
        """W + [up_1 up_2 ...] @ [down_1; down_2; ...], all networks in one product.

        On a CPU that computes in bf16 the factors are rounded to it: the sum is in fp32, and what the rounding of
        the factors costs is far below that of W'.
        """
        dtype, device = self.weight.dtype, self.weight.device
        direct = dtype == torch.float32 or (dtype == torch.bfloat16 and device.type == "cpu")
        ups, downs, scales = [], [], []
        for item, delta in parts:
            up, down = item.network.factors(self.target, device, dtype if direct else torch.float32)
            cut = item.strength.rank_cut
            ups.append(up[:, :cut])
            downs.append(down[:cut])
            scales.append(delta.scale * item.strength.of(self.target))
        same = len(set(scales)) == 1
        if not same:
            ups = [up * scale for up, scale in zip(ups, scales, strict=True)]
        alpha = scales[0] if same else 1.0
        up, down, flat = torch.cat(ups, dim=1), torch.cat(downs), self._flat(self.weight)
        if direct:
            new = self._prepared()
            torch.addmm(flat, up, down, alpha=alpha, out=self._flat(new.data))
            self.target.module.weight = new
        else:
            self._set_weight(self._unflat(torch.addmm(flat.float(), up, down, alpha=alpha)))

    def _set_weight(self, value: Tensor) -> None:
        new = self._prepared()
        new.data.copy_(value)
        self.target.module.weight = new

    def _set_bias(self, parts: Sequence[tuple[Applied, Tensor]]) -> None:
        if not parts:
            self._put_bias(self.bias)
            return
        start = torch.zeros(self.weight.shape[0]) if self.bias is None else self.bias
        bias = start.to(self.weight.device, torch.float32)
        for item, part in parts:
            bias = bias + part.to(bias.device, torch.float32).flatten() * item.strength.of(self.target)
        dtype = self.weight.dtype if self.bias is None else self.bias.dtype
        self._put_bias(nn.Parameter(bias.to(dtype), requires_grad=False))

    def _put_bias(self, bias: nn.Parameter | None) -> None:
        module: Any = self.target.module
        if getattr(module, "bias", None) is not bias:
            module.bias = bias

    def _prepared(self) -> nn.Parameter:
        """The parameter that stands in for the weight; its memory is used again for every set of networks."""
        if self._new_weight is None:
            self._new_weight = nn.Parameter(torch.empty_like(self.weight), requires_grad=False)
        return self._new_weight

    def _flat(self, weight: Tensor) -> Tensor:
        """(out, n) view of a weight, columns in the order of memory."""
        moved = weight.permute(0, 2, 3, 1) if is_channels_last(weight) else weight
        return moved.reshape(weight.shape[0], -1)

    def _unflat(self, flat: Tensor) -> Tensor:
        """Back to the weight's shape."""
        if not is_channels_last(self.weight):
            return flat.reshape(self.weight.shape)
        out, channels, height, width = self.weight.shape
        return flat.reshape(out, height, width, channels).permute(0, 3, 1, 2)


def is_channels_last(weight: Tensor) -> bool:
    """Whether a convolution's weight lies in memory as (out, kh, kw, in)."""
    return weight.ndim == 4 and not weight.is_contiguous()
