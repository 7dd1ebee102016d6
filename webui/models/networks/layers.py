"""One module of a model, and what it computes with while networks are on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from webui.models.networks.deltas import Delta, DoesNotFit, LowRank
from webui.models.networks.matching import Applied, is_channels_last
from webui.models.networks.names import Target


@dataclass(frozen=True)
class SideBranch:
    """Low-rank networks beside a linear layer that stays as it is: y + scale x down^T up^T.

    For text encoders, which are a quarter of SD 1.x's weights and read no more than a prompt's tokens: there the two
    narrow products of a call cost far less than a new weight. up: (out, r). down: (r, in).
    """

    up: Tensor
    down: Tensor
    scale: float

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """A forward hook."""
        change = F.linear(F.linear(inputs[0].to(self.down.dtype), self.down), self.up)
        return torch.add(output, change.to(output.dtype), alpha=self.scale)


@dataclass(frozen=True)
class StandIn:
    """What a module computes with in place of its own parameters; None for those that are its own.

    branch: what is added to what it computes, if anything.
    """

    weight: nn.Parameter | None = None
    bias: nn.Parameter | None = None
    branch: SideBranch | None = None

    @property
    def bytes(self) -> int:
        branch = (self.branch.up, self.branch.down) if self.branch else ()
        return sum(tensor.nbytes for tensor in (self.weight, self.bias, *branch) if tensor is not None)


def takes_branches(target: Target) -> bool:
    """Whether low-rank networks are put beside its weight; see `SideBranch`."""
    return target.is_text and isinstance(target.module, nn.Linear)


class Layer:
    """A module that is changed: its own parameters, and those that stand in for them while networks are on.

    device: where to compute, which needn't be where the module is now.
    """

    def __init__(self, target: Target, device: torch.device):
        self.target = target
        self.device = device
        self.weight = target.weight
        self.bias: nn.Parameter | None = getattr(target.module, "bias", None)
        self._new_weight: nn.Parameter | None = None
        self._branch: SideBranch | None = None
        self._hook: RemovableHandle | None = None

    @property
    def stand_in(self) -> StandIn:
        """What is in place of its own parameters now."""
        bias: nn.Parameter | None = getattr(self.target.module, "bias", None)
        changed = self.target.weight is not self.weight
        return StandIn(self.target.weight if changed else None, None if bias is self.bias else bias, self._branch)

    def put(self, part: StandIn) -> None:
        """Have this in place of its own parameters, as it was computed before."""
        self._new_weight = part.weight
        self.target.put(self.weight if part.weight is None else part.weight)
        self._put_bias(self.bias if part.bias is None else part.bias)
        self._put_branch(part.branch)

    def compute_into(self, used: nn.Parameter | None) -> None:
        """Leave what is in place as it is: what is computed next goes elsewhere, into `used` if there is one."""
        self._new_weight = used

    def restore(self) -> None:
        """Put the original parameters back, where the module is now."""
        self._bring_home(self.bias)
        self._put_bias(self.bias)
        self._put_branch(None)
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
        branches = takes_branches(self.target) and len(plain) == len(parts)
        self._put_branch(self._side_branch(plain) if branches else None)
        if branches:
            self._restore_weight()
            return misfits
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
        rows, rank = self.weight.shape[0], delta.down.shape[0]
        return delta.is_plain and delta.up.shape[0] == rows and delta.down.numel() * rows == rank * self.weight.numel()

    def _add_factors(self, base: Tensor, parts: Sequence[tuple[Applied, LowRank]]) -> None:
        """W + [up_1 up_2 ...] @ [down_1; down_2; ...], all networks in one product.

        On a CPU that computes in bf16 the factors are rounded to it: the sum is in fp32, and what the rounding of
        the factors costs is far below that of W'.
        """
        new = self._prepared()
        direct = base.dtype == torch.float32 or (base.dtype == torch.bfloat16 and self.device.type == "cpu")
        up, down, scale = self._factors(parts, base.dtype if direct else torch.float32)
        flat = _flat(base)
        if direct and new.device == base.device:
            torch.addmm(flat, up, down, alpha=scale, out=_flat(new.data))
            self.target.put(new)
        else:
            self._set_weight(_unflat(torch.addmm(flat.to(up.dtype), up, down, alpha=scale), base))

    def _side_branch(self, parts: Sequence[tuple[Applied, LowRank]]) -> SideBranch:
        """The same change of what the layer computes, its weight left alone."""
        computes = self.weight.dtype in (torch.float32, torch.bfloat16, torch.float16)
        return SideBranch(*self._factors(parts, self.weight.dtype if computes else torch.float32))

    def _factors(self, parts: Sequence[tuple[Applied, LowRank]], dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
        """[up_1 up_2 ...], [down_1; down_2; ...], and what their product is to be multiplied by."""
        ups, downs, scales = [], [], []
        for item, delta in parts:
            up, down = item.network.factors(self.target, self.device, dtype)
            if (cut := item.strength.rank_cut) is not None:
                up, down = up[:, :cut], down[:cut]
            ups.append(up)
            downs.append(down)
            scales.append(delta.scale * item.strength.of(self.target))
        if len(set(scales)) == 1:
            return torch.cat(ups, dim=1), torch.cat(downs), scales[0]
        return torch.cat([up * scale for up, scale in zip(ups, scales, strict=True)], dim=1), torch.cat(downs), 1.0

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

    def _put_branch(self, branch: SideBranch | None) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._branch = branch
        self._hook = None if branch is None else self.target.module.register_forward_hook(branch)

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
