"""What a LoRA adds to one layer while it learns: a module for each kind, whose tensors are those of kohya's files.

The counterpart that reads such files is `webui.models.networks.deltas`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """How an adapter is made. dim: its rank. alpha: 0 for the dim. See `LoraOptions` for the rest."""

    algo: str
    dim: int
    alpha: float
    dropout: float = 0.0
    rank_dropout: float = 0.0
    module_dropout: float = 0.0
    dora: bool = False
    wd_on_output: bool = True
    tucker: bool = False
    rs_lora: bool = False
    factor: int = -1
    decompose_both: bool = False
    full_matrix: bool = False


class Adapter(nn.Module):
    """Beside a linear layer or a convolution; `added` is what it adds to the layer's answer."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.conv = isinstance(layer, nn.Conv2d)
        self._options: dict[str, Any] = (
            {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "groups": layer.groups}
            if isinstance(layer, nn.Conv2d)
            else {}
        )
        self.alpha = shape.alpha or float(shape.dim)
        self.rows, self.columns = layer.weight.shape[0], layer.weight.shape[1]
        self.kernel = tuple(layer.weight.shape[2:])
        self.dora_scale: nn.Parameter | None = None

    @property
    def scale(self) -> float:
        dim = self.shape.dim
        return self.alpha / (math.sqrt(dim) if self.shape.rs_lora else dim)

    def begin_dora(self, weight: Tensor) -> None:
        """Start with the norms that the layer's weight has."""
        self.dora_scale = nn.Parameter(self._norm(weight.detach().float()))

    @abstractmethod
    def delta(self) -> Tensor:
        """The change of the layer's weight, in its shape."""

    def added(self, x: Tensor, weight: Tensor) -> Tensor | None:
        """What the layer's answer to `x` becomes more; None for nothing. weight: the layer's own."""
        if self.skipped():
            return None
        change = self.delta()
        if self.dora_scale is not None:
            whole = weight.float() + change
            change = self.dora_scale * whole / self._norm(whole) - weight.float()
        return self.apply(x, change)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        weight = weight.to(x.dtype)
        return F.conv2d(x, weight, **self._options) if self.conv else F.linear(x, weight)

    def skipped(self) -> bool:
        """Whether chance leaves this module out now."""
        return self.training and self.shape.module_dropout > 0 and float(torch.rand(1)) < self.shape.module_dropout

    def named_tensors(self) -> dict[str, Tensor]:
        """Suffix in the file -> tensor."""
        tensors = {name: value.detach() for name, value in self.named_parameters() if name != "dora_scale"}
        if self.dora_scale is not None:
            tensors["dora_scale"] = self.dora_scale.detach()
        return {**tensors, "alpha": torch.tensor(self.scale * self.shape.dim)}  # readers divide by the dim

    def up_parameters(self) -> list[nn.Parameter]:
        """Those whose rate LoRA+ multiplies."""
        return []

    def _norm(self, weight: Tensor) -> Tensor:
        """Norm of each row of outputs, [out, 1, ...], or of each column of inputs, [1, in, ...]."""
        kept = 0 if self.shape.wd_on_output else 1
        others = [axis for axis in range(weight.ndim) if axis != kept]
        return weight.square().sum(dim=others, keepdim=True).sqrt()


class LoRA(Adapter):
    """up * down, for convolutions too; with Tucker a small convolution between the two."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, shape: Shape) -> None:
        super().__init__(layer, shape)
        dim = shape.dim
        self.lora_down: nn.Linear | nn.Conv2d
        self.lora_up: nn.Linear | nn.Conv2d
        self.lora_mid: nn.Conv2d | None = None
        if not isinstance(layer, nn.Conv2d):
            self.lora_down = nn.Linear(self.columns, dim, bias=False)
            self.lora_up = nn.Linear(dim, self.rows, bias=False)
        else:
            size, options = layer.kernel_size, {"stride": layer.stride, "padding": layer.padding}
            if shape.tucker and math.prod(self.kernel) > 1:
                self.lora_down = nn.Conv2d(self.columns, dim, 1, bias=False)
                self.lora_mid = nn.Conv2d(dim, dim, size, bias=False, **options)  # type: ignore[arg-type]
                nn.init.kaiming_uniform_(self.lora_mid.weight, a=math.sqrt(5))
            else:
                self.lora_down = nn.Conv2d(self.columns, dim, size, bias=False, **options)  # type: ignore[arg-type]
            self.lora_up = nn.Conv2d(dim, self.rows, 1, bias=False)
        nn.init.kaiming_uniform_(self.lora_down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_up.weight)

    def delta(self) -> Tensor:
        up, down = self.lora_up.weight.flatten(1), self.lora_down.weight
        if self.lora_mid is not None:
            mid = self.lora_mid.weight
            return torch.einsum("or,rskl,si->oikl", up, mid, down.flatten(1)) * self.scale
        product = up @ down.flatten(1)
        return product.reshape(self.rows, self.columns, *self.kernel) * self.scale

    def added(self, x: Tensor, weight: Tensor) -> Tensor | None:
        if self.dora_scale is not None:
            return super().added(x, weight)
        if self.skipped():
            return None
        inner = self.lora_down(x)
        if self.lora_mid is not None:
            inner = self.lora_mid(inner)
        scale = self.scale
        if self.training and self.shape.dropout:
            inner = F.dropout(inner, self.shape.dropout)
        if self.training and self.shape.rank_dropout:
            inner, scale = self._without_ranks(inner), scale / (1 - self.shape.rank_dropout)
        added: Tensor = self.lora_up(inner) * scale
        return added

    def up_parameters(self) -> list[nn.Parameter]:
        return list(self.lora_up.parameters())

    def limit_norm(self, largest: float) -> None:
        """Scale both matrices down where the change's norm is larger."""
        with torch.no_grad():
            norm = float(self.delta().norm())
            if norm > largest:
                for part in (self.lora_up, self.lora_down):
                    part.weight.mul_(math.sqrt(largest / norm))

    def _without_ranks(self, inner: Tensor) -> Tensor:
        """Whole ranks of each sample at 0."""
        axis = 1 if self.conv else -1
        sizes = [len(inner)] + [1] * (inner.ndim - 1)
        sizes[axis] = self.shape.dim
        kept = torch.rand(sizes, device=inner.device) > self.shape.rank_dropout
        return inner * kept


class LoHa(Adapter):
    """Two low-rank products, multiplied element by element. Source: Hyeon-Woo et al. 2021, arXiv:2108.06098."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, shape: Shape) -> None:
        super().__init__(layer, shape)
        dim, columns = shape.dim, self.columns * math.prod(self.kernel)
        self.hada_w1_a = nn.Parameter(torch.randn(self.rows, dim) * 0.1)
        self.hada_w1_b = nn.Parameter(torch.randn(dim, columns))
        self.hada_w2_a = nn.Parameter(torch.zeros(self.rows, dim))
        self.hada_w2_b = nn.Parameter(torch.randn(dim, columns))

    def delta(self) -> Tensor:
        product = (self.hada_w1_a @ self.hada_w1_b) * (self.hada_w2_a @ self.hada_w2_b)
        return product.reshape(self.rows, self.columns, *self.kernel) * self.scale


class LoKr(Adapter):
    """A Kronecker product, whose larger factor is of low rank. Source: Yeh et al. 2023, arXiv:2309.14859."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, shape: Shape) -> None:
        super().__init__(layer, shape)
        dim, inner = shape.dim, math.prod(self.kernel)
        (small_in, large_in), (small_out, large_out) = (split(size, shape.factor) for size in (self.columns, self.rows))
        decomposed = shape.decompose_both and dim < max(small_out, small_in) / 2 and not shape.full_matrix
        low = dim < max(large_out, large_in) / 2 and not shape.full_matrix
        self._large = (large_out, large_in, *self.kernel)
        if decomposed:
            self.lokr_w1_a, self.lokr_w1_b = _kaiming(small_out, dim), _kaiming(dim, small_in)
        else:
            self.lokr_w1 = _kaiming(small_out, small_in)
        if low:
            self.lokr_w2_a = _kaiming(large_out, dim)
            self.lokr_w2_b = nn.Parameter(torch.zeros(dim, large_in * inner))
        else:
            self.lokr_w2 = nn.Parameter(torch.zeros(self._large))

    @property
    def scale(self) -> float:
        return 1.0 if hasattr(self, "lokr_w1") and hasattr(self, "lokr_w2") else super().scale

    def delta(self) -> Tensor:
        first = self.lokr_w1 if hasattr(self, "lokr_w1") else self.lokr_w1_a @ self.lokr_w1_b
        second = self.lokr_w2 if hasattr(self, "lokr_w2") else (self.lokr_w2_a @ self.lokr_w2_b).reshape(self._large)
        first = first.reshape(*first.shape, *[1] * len(self.kernel))
        return torch.kron(first, second.contiguous()) * self.scale


def split(size: int, factor: int) -> tuple[int, int]:
    """Two numbers whose product is `size`, as close together as can be, the smaller first and at most `factor`.

    A factor that divides `size` is one of them. factor: -1 for any.
    """
    if factor > 0 and size % factor == 0:
        return min(factor, size // factor), max(factor, size // factor)
    highest = math.isqrt(size) if factor < 0 else min(math.isqrt(size), factor)
    small = next(number for number in range(highest, 0, -1) if size % number == 0)
    return small, size // small


def _kaiming(*sizes: int) -> nn.Parameter:
    weight = torch.empty(sizes)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    return nn.Parameter(weight)


KINDS: dict[str, type[Adapter]] = {"lora": LoRA, "locon": LoRA, "loha": LoHa, "lokr": LoKr}


def make_adapter(layer: nn.Linear | nn.Conv2d, shape: Shape) -> Adapter:
    """In fp32 on the CPU. It adds nothing before it has learned."""
    adapter = KINDS[shape.algo](layer, shape)
    if shape.dora:
        adapter.begin_dora(layer.weight)
    return adapter
