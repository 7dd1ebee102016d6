"""What each kind of network changes in one weight: W' = W + delta, all in fp32.

Sources: LoRA arXiv:2106.09685; LyCORIS (LoCon, LoHa, LoKr, IA3, full, norm, GLoRA, OFT, BOFT) arXiv:2309.14859;
DoRA arXiv:2402.09353; OFT arXiv:2306.07280; BOFT arXiv:2311.06243.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
"""A module's tensors by canonical suffix, e.g. "lora_up", "hada_w1_a", "alpha"."""


class DoesNotFit(Exception):
    """The tensors of a module are no network of any kind, or not one for this weight."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Delta(ABC):
    """The change of one module at strength 1.

    scale: what `product` is multiplied by (alpha / rank). extra: addition to the weight, dense or sparse, or None.
    dora: magnitudes, (out, 1, ...) or (1, in, ...), or None. bias: addition to the module's bias, or None.
    """

    scale: float = 1.0
    extra: Tensor | None = None
    dora: Tensor | None = None
    bias: Tensor | None = None

    @abstractmethod
    def product(self, weight: Tensor, rank_cut: int | None) -> Tensor | None:
        """The difference before scaling, of as many numbers as the weight has; None when only a bias changes.

        weight: fp32, with what networks before this one did to it.
        """

    def of_weight(self, weight: Tensor, rank_cut: int | None = None) -> Tensor | None:
        """The difference of the weight at strength 1, in its shape, fp32.

        rank_cut: of low-rank kinds only the first so many columns ("dyn").
        Raises: DoesNotFit.
        """
        try:
            product = self.product(weight, rank_cut)
            if product is None:
                return None
            product = _shaped(product, weight)
            if self.extra is not None:
                _check_size(weight, self.extra.numel())
                product = product + self.extra.to_dense().to(product.device).reshape(product.shape)
            change = product * self.scale
            return change if self.dora is None else decomposed(weight, change, self.dora.to(weight.device))
        except RuntimeError as error:
            raise DoesNotFit(str(error)) from error

    def of_bias(self) -> Tensor | None:
        """The difference of the bias at strength 1, fp32."""
        return self.bias


def _shaped(product: Tensor, weight: Tensor) -> Tensor:
    """`product` in the weight's shape; an inpainting network's further input channels stay as they are."""
    if product.numel() == weight.numel():
        return product.reshape(weight.shape)
    if weight.ndim == 4 and product.ndim == 4 and product.shape[1] == 4 < weight.shape[1]:
        padded = torch.zeros_like(weight)
        padded[:, :4] = product
        return padded
    raise DoesNotFit(f"{list(product.shape)} is no change of a weight {list(weight.shape)}")


def decomposed(weight: Tensor, change: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA: m (W + change) / |W + change| - W.

    magnitude: (out,) or (out, 1, ...): norms over a row, which makes one output; (1, in, ...): over a column.
    """
    changed = weight + change
    flat = magnitude.numel()
    by_column = magnitude.ndim > 1 and magnitude.shape[0] == 1 and flat == weight.shape[1] and weight.shape[0] != 1
    if by_column:
        norm = changed.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *[1] * (weight.ndim - 2))
        return changed * (magnitude.reshape(norm.shape) / norm) - weight
    if flat != weight.shape[0]:
        raise DoesNotFit(f"{flat} magnitudes are too many or few for a weight {list(weight.shape)}")
    norm = changed.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
    return changed * (magnitude.reshape(norm.shape) / norm) - weight


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRank(Delta):
    """LoRA, LoCon: up @ down; with a middle (Tucker) sum_ij mid[i, j] up[:, i] down[j, :] for each kernel place.

    up: (out, r, ...). down: (r, in, ...). mid: (r, r, kh, kw) or None.
    """

    up: Tensor
    down: Tensor
    mid: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether `scale * up @ down` is all that it does to the weight."""
        return self.mid is None and self.dora is None and self.extra is None

    def product(self, weight: Tensor, rank_cut: int | None) -> Tensor:
        if self.mid is not None:
            _check_size(weight, self.up.shape[0], self.down.shape[1], *self.mid.shape[2:])
            up, down = self.up.flatten(1), self.down.flatten(1)
            return torch.einsum("oi,ij...,jn->on...", _on(up, weight), _on(self.mid, weight), _on(down, weight))
        up, down = self.up.flatten(1)[:, :rank_cut], self.down.flatten(1)[:rank_cut]
        _check_size(weight, up.shape[0], down.shape[1])
        return (_on(up, weight) @ _on(down, weight)).reshape(up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Hadamard(Delta):
    """LoHa: (w1a w1b) * (w2a w2b); with cores t each factor is its own Tucker product."""

    w1a: Tensor
    w1b: Tensor
    w2a: Tensor
    w2b: Tensor
    t1: Tensor | None = None
    t2: Tensor | None = None

    def product(self, weight: Tensor, rank_cut: int | None) -> Tensor:
        if self.t1 is None or self.t2 is None:
            _check_size(weight, self.w1a.shape[0], self.w1b.shape[1])
            _check_size(weight, self.w2a.shape[0], self.w2b.shape[1])
            return (_on(self.w1a, weight) @ _on(self.w1b, weight)) * (_on(self.w2a, weight) @ _on(self.w2b, weight))
        _check_size(weight, self.w1a.shape[1], self.w1b.shape[1], *self.t1.shape[2:])
        _check_size(weight, self.w2a.shape[1], self.w2b.shape[1], *self.t2.shape[2:])
        return tucker(_on(self.t1, weight), _on(self.w1a, weight), _on(self.w1b, weight)) * tucker(
            _on(self.t2, weight), _on(self.w2a, weight), _on(self.w2b, weight)
        )


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """LyCORIS' CP form: sum_ij core[i, j, ...] a[i, out] b[j, in]. Returns: (out, in, ...)."""
    return torch.einsum("ij...,io,jn->on...", core, a, b)


@dataclass(frozen=True, kw_only=True, eq=False)
class Kronecker(Delta):
    """LoKr: kron(w1, w2), each whole or a product; w2 may have kernel dimensions."""

    w1: Tensor
    w2: Tensor
    w1b: Tensor | None = None
    w2b: Tensor | None = None
    t2: Tensor | None = None

    def _sizes(self) -> tuple[int, ...]:
        """How many numbers each factor has along each axis."""
        first = tuple(self.w1.shape) if self.w1b is None else (self.w1.shape[0], self.w1b.shape[1])
        if self.w2b is None:
            return *first, *self.w2.shape
        if self.t2 is None:
            return *first, self.w2.shape[0], self.w2b.shape[1]
        return *first, self.w2.shape[1], self.w2b.shape[1], *self.t2.shape[2:]

    def product(self, weight: Tensor, rank_cut: int | None) -> Tensor:
        _check_size(weight, *self._sizes())
        w1 = _on(self.w1, weight) if self.w1b is None else _on(self.w1, weight) @ _on(self.w1b, weight)
        if self.t2 is not None and self.w2b is not None:
            w2 = tucker(_on(self.t2, weight), _on(self.w2, weight), _on(self.w2b, weight))
        else:
            w2 = _on(self.w2, weight) if self.w2b is None else _on(self.w2, weight) @ _on(self.w2b, weight)
        return torch.kron(w1.reshape(*w1.shape, *[1] * (w2.ndim - w1.ndim)).contiguous(), w2.contiguous())


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaled(Delta):
    """IA3: W * w, w over the rows (outputs), or over the columns with on_input."""

    w: Tensor
    on_input: bool = False

    def product(self, weight: Tensor, rank_cut: int | None) -> Tensor:
        axis = 1 if self.on_input else 0
        if weight.ndim <= axis or self.w.numel() != weight.shape[axis]:
            raise DoesNotFit(f"{self.w.numel()} factors are too many or few for a weight {list(weight.shape)}")
        shape = [1] * weight.ndim
        shape[axis] = -1
        return weight * _on(self.w, weight).reshape(shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Whole(Delta):
    """Full difference, also of a norm's weight; None changes the bias alone."""

    diff: Tensor | None = None

    def product(self, weight: Tensor, rank_cut: int | None) -> Tensor | None:
        return None if self.diff is None else _on(self.diff, weight)


@dataclass(frozen=True, kw_only=True, eq=False)
class Glora(Delta):
    """GLoRA: b2 b1 + W a2 a1."""

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor

    def product(self, weight: Tensor, rank_cut: int | None) -> Tensor:
        a1, a2, b1, b2 = (_on(factor.flatten(1), weight) for factor in (self.a1, self.a2, self.b1, self.b2))
        flat = weight.flatten(1)
        _check_size(flat, b2.shape[0], b1.shape[1])
        _check_size(flat, flat.shape[0], a1.shape[1])
        return b2 @ b1 + flat @ a2 @ a1


@dataclass(frozen=True, kw_only=True, eq=False)
class Orthogonal(Delta):
    """OFT, BOFT: blocks of rows are turned by R = (I + Q)(I - Q)^-1 with Q = B - B^T.

    blocks: (n, b, b) B of OFT, or R itself where `turned`; (m, n, b, b) of BOFT, whose m layers are butterflies.
    limit: the largest norm of Q is limit * outputs, 0 for none. rescale: (out,) factors of the outputs, or None.
    """

    blocks: Tensor
    turned: bool = False
    limit: float = 0.0
    rescale: Tensor | None = None

    def product(self, weight: Tensor, rank_cut: int | None) -> Tensor:
        count, size = self.blocks.shape[-3:-1]
        if self.blocks.shape[-1] != size or count * size != weight.shape[0]:
            raise DoesNotFit(f"blocks {list(self.blocks.shape)} can't turn a weight {list(weight.shape)}")
        blocks = _on(self.blocks, weight)
        turn = blocks if self.turned else cayley(blocks, self.limit * weight.shape[0])
        if turn.ndim == 3:
            rows = weight.reshape(count, size, -1)
            moved = torch.einsum("knm,knp->kmp", turn, rows).reshape(weight.shape)
        else:
            moved = _butterflies(turn, weight)
        if self.rescale is not None:
            moved = moved * _on(self.rescale, weight).reshape(-1, *[1] * (weight.ndim - 1))
        return moved - weight


def cayley(blocks: Tensor, longest: float) -> Tensor:
    """Orthogonal R from any blocks (..., b, b). longest: of Q over all blocks, 0 for no limit."""
    skew = blocks - blocks.transpose(-1, -2)
    if longest > 0:
        norm = skew.norm()
        skew = skew * ((norm.clamp(max=longest) + 1e-8) / (norm + 1e-8))
    eye = torch.eye(blocks.shape[-1], device=blocks.device)
    return (eye + skew) @ torch.linalg.inv(eye - skew)


def _butterflies(turn: Tensor, weight: Tensor) -> Tensor:
    """turn: (m, n, b, b). Layer i turns rows that lie 2^i * b / 2 apart."""
    layers, count, size, _ = turn.shape
    rows, half = weight.reshape(weight.shape[0], -1), size // 2
    for layer in range(layers):
        reach = 2**layer * half
        if rows.shape[0] % (2 * reach):
            raise DoesNotFit(f"{layers} butterfly layers of {size} can't turn {rows.shape[0]} rows")
        paired = rows.reshape(-1, 2, reach, rows.shape[1]).transpose(1, 2)
        turned = torch.einsum("bij,bjp->bip", turn[layer], paired.reshape(count, size, -1))
        rows = turned.reshape(-1, reach, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
    return rows.reshape(weight.shape)


def _on(tensor: Tensor, weight: Tensor) -> Tensor:
    return tensor.to(weight.device, torch.float32)


def _check_size(weight: Tensor, *sizes: int) -> None:
    """Before a product is made: it has as many numbers as the weight, or as its first 4 input channels."""
    made = math.prod(sizes)
    four = weight.numel() // weight.shape[1] * 4 if weight.ndim == 4 else -1
    if made not in (weight.numel(), four):
        raise DoesNotFit(f"{made} numbers are no change of a weight {list(weight.shape)}")


def read_delta(tensors: Tensors) -> Delta:
    """The network of one module, told by its suffixes.

    Raises: DoesNotFit for tensors that make no network.
    """
    for suffixes, read in _KINDS:
        if all(suffix in tensors for suffix in suffixes):
            return read(tensors)
    raise DoesNotFit(f"unknown tensors {', '.join(sorted(tensors))[:200]}")


def _number(tensors: Tensors, key: str) -> float | None:
    tensor = tensors.get(key)
    if tensor is None:
        return None
    if tensor.numel() != 1 or not math.isfinite(float(tensor)):
        raise DoesNotFit(f"{key} should be one number and is {list(tensor.shape)}")
    return float(tensor)


def _scale(tensors: Tensors, rank: int | None) -> float:
    """`scale` if given, else alpha / rank, else 1; times `scalar`."""
    given, alpha, scalar = (_number(tensors, key) for key in ("scale", "alpha", "scalar"))
    scale = given if given is not None else alpha / rank if alpha is not None and rank else 1.0
    return scale if scalar is None else scale * scalar


def _low_rank(tensors: Tensors) -> LowRank:
    up, down, mid = tensors["lora_up"], tensors["lora_down"], tensors.get("lora_mid")
    if up.ndim < 2 or down.ndim < 2 or (mid is not None and mid.ndim < 3):
        raise DoesNotFit(f"factors {list(up.shape)} and {list(down.shape)}")
    if mid is None and up.flatten(1).shape[1] != down.shape[0]:
        raise DoesNotFit(f"factors {list(up.shape)} and {list(down.shape)}")
    scale, up_bias = _scale(tensors, down.shape[0]), tensors.get("lora_up_bias")
    return LowRank(
        scale=scale,
        extra=_sparse(tensors),
        dora=tensors.get("dora_scale"),
        bias=None if up_bias is None else up_bias.float() * scale,
        up=up,
        down=down,
        mid=mid,
    )


def _sparse(tensors: Tensors) -> Tensor | None:
    """LyCORIS' sparse addition to the weight, or a dense one."""
    if all(key in tensors for key in ("bias_indices", "bias_values", "bias_size")):
        size = [int(n) for n in tensors["bias_size"].flatten().tolist()]
        indices, values = tensors["bias_indices"].long(), tensors["bias_values"].float()
        try:
            return torch.sparse_coo_tensor(indices, values, size, check_invariants=True)
        except RuntimeError as error:
            raise DoesNotFit(str(error)) from error
    return tensors["bias"].float() if "bias" in tensors else None


def _hadamard(tensors: Tensors) -> Hadamard:
    w1b = tensors["hada_w1_b"]
    return Hadamard(
        scale=_scale(tensors, w1b.shape[0] if w1b.ndim else None),
        extra=_sparse(tensors),
        dora=tensors.get("dora_scale"),
        w1a=_matrix(tensors, "hada_w1_a"),
        w1b=_matrix(tensors, "hada_w1_b"),
        w2a=_matrix(tensors, "hada_w2_a"),
        w2b=_matrix(tensors, "hada_w2_b"),
        t1=tensors.get("hada_t1"),
        t2=tensors.get("hada_t2"),
    )


def _matrix(tensors: Tensors, key: str) -> Tensor:
    if tensors[key].ndim != 2:
        raise DoesNotFit(f"{key} should be a matrix and is {list(tensors[key].shape)}")
    return tensors[key]


def _kronecker(tensors: Tensors) -> Kronecker:
    w1b, w2b = tensors.get("lokr_w1_b"), tensors.get("lokr_w2_b")
    w1, w2 = tensors.get("lokr_w1"), tensors.get("lokr_w2")
    if w1 is not None:
        w1b = None
    if w2 is not None:
        w2b = None
    ranked = w2b if w2b is not None else w1b
    first = w1 if w1 is not None else tensors.get("lokr_w1_a")
    second = w2 if w2 is not None else tensors.get("lokr_w2_a")
    if first is None or second is None or first.ndim != 2 or (w1 is None) != (w1b is not None):
        raise DoesNotFit("a LoKr needs both its factors")
    if (w2 is None) != (w2b is not None) or any(part is not None and part.ndim != 2 for part in (w1b, w2b)):
        raise DoesNotFit("a LoKr needs both its factors")
    return Kronecker(
        scale=_scale(tensors, ranked.shape[0] if ranked is not None and ranked.ndim else None),
        extra=_sparse(tensors),
        dora=tensors.get("dora_scale"),
        w1=first,
        w2=second,
        w1b=w1b,
        w2b=w2b,
        t2=tensors.get("lokr_t2") if w2 is None else None,
    )


def _scaled(tensors: Tensors) -> Scaled:
    on_input = tensors["on_input"]
    if on_input.numel() != 1:
        raise DoesNotFit("on_input should be true or false")
    return Scaled(scale=_scale(tensors, None), w=tensors["weight"], on_input=bool(on_input))


def _whole(tensors: Tensors) -> Whole:
    return Whole(scale=_scale(tensors, None), bias=tensors.get("diff_b"), diff=tensors.get("diff"))


def _norm(tensors: Tensors) -> Whole:
    return Whole(scale=_scale(tensors, None), bias=tensors.get("b_norm"), diff=tensors.get("w_norm"))


def _glora(tensors: Tensors) -> Glora:
    a1, a2, b1, b2 = (tensors[key] for key in ("a1", "a2", "b1", "b2"))
    if min(factor.ndim for factor in (a1, a2, b1, b2)) < 2:
        raise DoesNotFit("a GLoRA needs four matrices")
    return Glora(scale=_scale(tensors, b1.shape[0]), dora=tensors.get("dora_scale"), a1=a1, a2=a2, b1=b1, b2=b2)


def _oft(tensors: Tensors) -> Orthogonal:
    turned = "oft_blocks" not in tensors
    blocks = tensors["oft_diag" if turned else "oft_blocks"]
    if blocks.ndim not in (3, 4):
        raise DoesNotFit(f"blocks {list(blocks.shape)}")
    limit = _number(tensors, "alpha") or 0.0
    return Orthogonal(
        blocks=blocks, turned=turned, limit=0.0 if turned else limit, rescale=tensors.get("rescale"), scale=1.0
    )


_KINDS: tuple[tuple[tuple[str, ...], Callable[[Tensors], Delta]], ...] = (
    (("lora_up", "lora_down"), _low_rank),
    (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), _hadamard),
    (("weight", "on_input"), _scaled),
    (("lokr_w1",), _kronecker),
    (("lokr_w1_a", "lokr_w1_b"), _kronecker),
    (("diff",), _whole),
    (("diff_b",), _whole),
    (("w_norm",), _norm),
    (("b_norm",), _norm),
    (("a1", "a2", "b1", "b2"), _glora),
    (("oft_blocks",), _oft),
    (("oft_diag",), _oft),
)
"""Suffixes that tell a kind, in A1111's order."""
