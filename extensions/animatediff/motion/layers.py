"""The temporal transformer that lets the frames of a clip see each other, and what a file has of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = 8
GROUPS = 32
MOST_ROWS = 2048
"""How many places of the picture are computed at a time: few need little memory, and CUDA's attention takes 65,535."""

Windows = Sequence[Sequence[int]]


class TemporalAttention(nn.Module):
    """Self-attention over the frames, which know their places. x: (N, F, C)."""

    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.pos_encoder = nn.Module()
        self.pos_encoder.register_buffer("pe", sinusoids(positions, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_encoder.pe[:, : x.shape[1]]
        q, k, v = (layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        output: Tensor = self.to_out[0](mixed)
        return output


class Gated(nn.Module):
    """GEGLU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class TemporalBlock(nn.Module):
    """Two attentions and a feed-forward network, each beside a way around it."""

    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList([TemporalAttention(width, positions) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.ff = nn.Module()
        self.ff.net = nn.ModuleList([Gated(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])
        self.ff_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, windows: Windows | None = None) -> Tensor:
        """x: (N, F, C). windows: of frames that see each other, whose answers are averaged; None for all frames."""
        if windows is None:
            x = self._attended(x)
        else:
            x = averaged(lambda frames: self._attended(x[:, frames]), windows, x, axis=1)
        gate, _, out = self.ff.net
        fed: Tensor = out(gate(self.ff_norm(x)))
        return x + fed

    def _attended(self, x: Tensor) -> Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attention(norm(x))
        return x


class MotionModule(nn.Module):
    """What is put behind a layer of the U-Net. Fresh ones change nothing: what they add is projected to zero."""

    def __init__(self, width: int, depth: int, positions: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(width, positions) for _ in range(depth)])
        self.proj_out = nn.Linear(width, width)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, frames: int, *, over_clip: bool = False, windows: Windows | None = None) -> Tensor:
        """x: (clips * frames, C, h, w), clip by clip.

        over_clip: the norm takes all frames of a clip together, as diffusers does; else each by itself, as AnimateDiff
        was trained. windows: see `TemporalBlock`.
        """
        height, width = x.shape[-2:]
        normed = frames_first(self.norm(clips_first(x, frames))) if over_clip else self.norm(x)
        rows = normed.unflatten(0, (-1, frames)).flatten(-2).permute(0, 3, 1, 2).flatten(0, 1)
        done = torch.cat([self._transformed(part, windows) for part in rows.split(MOST_ROWS)])
        return x + done.unflatten(0, (-1, height * width)).permute(0, 2, 3, 1).flatten(0, 1).view_as(x)

    def _transformed(self, rows: Tensor, windows: Windows | None) -> Tensor:
        rows = self.proj_in(rows)
        for block in self.transformer_blocks:
            rows = block(rows, windows)
        projected: Tensor = self.proj_out(rows)
        return projected


def clips_first(x: Tensor, frames: int) -> Tensor:
    """(clips * frames, C, h, w) to (clips, C, frames, h, w), so that a group norm takes a clip's frames together."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2).contiguous()


def frames_first(x: Tensor) -> Tensor:
    """The opposite of `clips_first`."""
    return x.transpose(1, 2).flatten(0, 1)


def averaged(answer: Callable[[list[int]], Tensor], windows: Windows, like: Tensor, axis: int) -> Tensor:
    """The answers for windows of frames as one for all frames: where they overlap their mean, by pyramid weights.

    answer: for frames in this order. like: a tensor with an axis of frames.
    """
    total, weights = torch.zeros_like(like), torch.zeros(like.shape[axis], device=like.device, dtype=like.dtype)
    shape = [-1 if place == axis else 1 for place in range(like.ndim)]
    for frames in windows:
        count = len(frames)
        weight = torch.tensor([min(place + 1, count - place) for place in range(count)]).to(weights)
        index = torch.tensor(frames, device=like.device)
        total.index_add_(axis, index, answer(list(frames)) * weight.view(shape))
        weights.index_add_(0, index, weight)
    return total / weights.view(shape)


def sinusoids(positions: int, width: int) -> Tensor:
    """(1, positions, width): sines at even channels, cosines at odd ones. Source: Vaswani et al. 2017, section 3.5."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(positions)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None]


def built(tensors: Mapping[str, Tensor], positions: int) -> MotionModule:
    """The module of these tensors, named as `names.placed` does. Raises: RuntimeError when some are missing."""
    width = tensors["norm.weight"].shape[0]
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("transformer_blocks."))
    with torch.device("meta"):
        module = MotionModule(width, depth, positions)
    stored = dict(tensors)
    for name in module.state_dict():
        if name.endswith(".pe") and name not in stored:
            stored[name] = sinusoids(positions, width)
    module.load_state_dict(stored, assign=True)
    return module.requires_grad_(False).eval()
