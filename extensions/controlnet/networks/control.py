"""A control network: a copy of the U-Net's encoder that reads a map and answers what the U-Net is to add to itself.

Zhang et al. 2023, arXiv:2302.05543; ControlNet++ (xinsir 2024) for union networks; on diffusers' modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel
from torch import Tensor

from . import names

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Residuals:
    """What a U-Net adds: down, to each of its skips from shallow to deep; middle, to its middle block's output."""

    down: tuple[Tensor, ...]
    middle: Tensor | None


@dataclass(frozen=True)
class UnionLayout:
    """What a union network has beside. kinds: of maps it tells apart. width, depth: of what mixes map and picture."""

    kinds: int
    width: int
    depth: int


@dataclass(frozen=True)
class Layout:
    """What a file's shapes tell. depths: transformer blocks by level, 0 for none."""

    widths: tuple[int, ...]
    blocks: int
    depths: tuple[int, ...]
    middle_depth: int
    context_width: int
    vector_width: int
    in_channels: int
    linear: bool
    hint_channels: int
    hint_widths: tuple[int, ...]
    union: UnionLayout | None = None

    @property
    def family(self) -> str:
        """The base family it steers, in words."""
        if self.vector_width:
            return "SDXL"
        return {768: "SD 1.x", 1024: "SD 2.x"}.get(self.context_width, f"a U-Net with text {self.context_width} wide")


def read_layout(shapes: Shapes) -> Layout:
    """shapes: of weights under diffusers' names."""
    levels = 1 + max(int(match[1]) for name in shapes if (match := re.match(r"down_blocks\.(\d+)\.", name)))
    blocks = 1 + max(int(match[1]) for name in shapes if (match := re.match(r"down_blocks\.0\.resnets\.(\d+)\.", name)))
    keys = [name for name in shapes if name.endswith("transformer_blocks.0.attn2.to_k.weight")]
    linear = next((len(shapes[name]) == 2 for name in shapes if name.endswith(".proj_in.weight")), False)
    hints = sorted(
        (int(match[1]), shapes[name][0])
        for name in shapes
        if (match := re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d+)\.weight", name))
    )
    first = shapes["controlnet_cond_embedding.conv_in.weight"]
    return Layout(
        widths=tuple(shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)),
        blocks=blocks,
        depths=tuple(_depth(shapes, f"down_blocks.{level}.attentions.0") for level in range(levels)),
        middle_depth=_depth(shapes, "mid_block.attentions.0"),
        context_width=shapes[keys[0]][1] if keys else 0,
        vector_width=shapes["add_embedding.linear_1.weight"][1] if "add_embedding.linear_1.weight" in shapes else 0,
        in_channels=shapes["conv_in.weight"][1],
        linear=linear,
        hint_channels=first[1],
        hint_widths=(first[0], *(width for number, width in hints if number % 2)),
        union=_read_union(shapes),
    )


def _read_union(shapes: Shapes) -> UnionLayout | None:
    if "task_embedding" not in shapes:
        return None
    layers = [int(match[1]) for name in shapes if (match := re.match(r"transformer_layes\.(\d+)\.", name))]
    kinds, width = shapes["task_embedding"]
    return UnionLayout(kinds, width, 1 + max(layers))


def _depth(shapes: Shapes, attention: str) -> int:
    found = [re.match(rf"{re.escape(attention)}\.transformer_blocks\.(\d+)\.", name) for name in shapes]
    return max((int(match[1]) + 1 for match in found if match), default=0)


UNION_HEADS = 8
"""Of a union network's mixing layers; a file doesn't tell it."""


def build(layout: Layout, heads: tuple[int, ...], groups: int) -> ControlNetModel | ControlNetUnionModel:
    """The network without weights (on the meta device). heads: of the U-Net's levels; a file doesn't tell them."""
    vector = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": layout.vector_width,
    }
    own: dict[str, Any] = {"mid_block_type": "UNetMidBlock2DCrossAttn" if layout.middle_depth else "UNetMidBlock2D"}
    if layout.union is not None:
        own = {
            "num_control_type": layout.union.kinds,
            "num_trans_channel": layout.union.width,
            "num_trans_head": UNION_HEADS,
            "num_trans_layer": layout.union.depth,
            "num_proj_channel": layout.widths[0],
            "addition_time_embed_dim": 256,
        }
    with torch.device("meta"):
        return (ControlNetModel if layout.union is None else ControlNetUnionModel)(
            in_channels=layout.in_channels,
            conditioning_channels=layout.hint_channels,
            down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in layout.depths),
            block_out_channels=layout.widths,
            layers_per_block=layout.blocks,
            transformer_layers_per_block=tuple(
                max(depth, 1) if level + 1 < len(layout.depths) else max(depth, layout.middle_depth, 1)
                for level, depth in enumerate(layout.depths)
            ),
            cross_attention_dim=layout.context_width or 1280,
            attention_head_dim=heads,  # diffusers' name for the number of heads
            norm_num_groups=groups,
            use_linear_projection=layout.linear,
            conditioning_embedding_out_channels=layout.hint_widths,
            **(own | (vector if layout.vector_width else {})),
        )


class ControlNetwork:
    """A control network with its weights on a device.

    pooled: each residual is its mean over the picture (shuffle models).
    """

    def __init__(self, module: ControlNetModel | ControlNetUnionModel, layout: Layout, pooled: bool = False):
        self.module = module
        self.layout = layout
        self.pooled = pooled

    @classmethod
    def of(
        cls,
        weights: Mapping[str, Tensor],
        heads: tuple[int, ...],
        groups: int,
        device: torch.device,
        dtype: torch.dtype,
        pooled: bool = False,
    ) -> ControlNetwork:
        """weights: as a file has them, in LDM's or diffusers' names. Raises: KeyError, ValueError for other files."""
        named = names.as_diffusers(names.bare(weights))
        layout = read_layout({name: tuple(weight.shape) for name, weight in named.items()})
        module = build(layout, heads, groups)
        missing, _ = module.load_state_dict(
            {name: weight.to(device, dtype) for name, weight in named.items()}, strict=False, assign=True
        )
        if missing:
            raise ValueError(f"{len(missing)} weights are missing, {missing[0]} among them")
        return cls(module.eval().requires_grad_(False), layout, pooled)

    def read(self, hint: Tensor) -> Tensor:
        """What it makes of the map before any noise is seen. hint: (M, C, 8h, 8w) in [0, 1]. Returns: (M, C', h, w)."""
        weight = self.module.conv_in.weight
        embedded: Tensor = self.module.controlnet_cond_embedding(hint.to(weight.device, weight.dtype))
        return embedded

    def residuals(
        self, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor | None, read: Tensor, kind: int = 0
    ) -> Residuals:
        """x: (N, C, h, w) scaled input. timesteps: (N,). context: (N, T, D). read: what `read` gave, of one
        map or of N. kind: of the map, which union networks are told.
        """
        net: Any = self.module
        weight = net.conv_in.weight
        x, context = x.to(weight.device, weight.dtype), context.to(weight.device, weight.dtype)
        time = net.time_embedding(net.time_proj(timesteps.to(weight.device)).to(weight.dtype))
        if self.layout.vector_width and vector is not None:
            time = time + net.add_embedding(vector.to(weight.device, weight.dtype))
        sample = net.conv_in(x)
        if self.layout.union is None:
            sample = sample + read
        else:
            time = time + self._told(kind, self.layout.union.kinds).to(time)
            pairs = [(sample, read)] if len(read) == 1 else zip(sample.split(1), read.split(1), strict=True)
            sample = sample + torch.cat([self._mixed(own, seen, kind) for own, seen in pairs])
        skips = (sample,)
        for block in net.down_blocks:
            more = {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}
            sample, made = block(hidden_states=sample, temb=time, **more)
            skips += made
        more = {"encoder_hidden_states": context} if getattr(net.mid_block, "has_cross_attention", False) else {}
        sample = net.mid_block(sample, time, **more)
        down = tuple(zero(skip) for zero, skip in zip(net.controlnet_down_blocks, skips, strict=True))
        middle = net.controlnet_mid_block(sample)
        if self.pooled:
            down, middle = tuple(mean(residual) for residual in down), mean(middle)
        return Residuals(down, middle)

    def _told(self, kind: int, kinds: int) -> Tensor:
        """(1, D): what the time is given beside, so that a union network knows the kind of map."""
        net: Any = self.module
        chosen = torch.zeros(1, kinds, device=net.conv_in.weight.device)
        chosen[0, kind] = 1
        embedded = net.control_type_proj(chosen.flatten()).reshape(1, -1)
        told: Tensor = net.control_add_embedding(embedded.to(net.conv_in.weight.dtype))
        return told

    def _mixed(self, sample: Tensor, read: Tensor, kind: int) -> Tensor:
        """(N, C, h, w): what a union network adds of the map to each row by itself.

        In diffusers' layers the rows of a call attend to each other; those of one picture are alike, and then that is
        the same.
        """
        net: Any = self.module
        seen = read.mean(dim=(2, 3)) + net.task_embedding[kind]
        rows = torch.cat([seen, sample.mean(dim=(2, 3))])[None]
        for layer in net.transformer_layes:
            rows = layer(rows)
        shift: Tensor = net.spatial_ch_projs(rows[0, :1])[:, :, None, None]
        return read + shift


def mean(residual: Tensor) -> Tensor:
    """(N, C, h, w) to (N, C, 1, 1), which is added everywhere."""
    return residual.mean(dim=(2, 3), keepdim=True)
