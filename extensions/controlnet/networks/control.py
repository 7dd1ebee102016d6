"""A control network: a copy of the U-Net's encoder that reads a map and answers what the U-Net is to add to itself.

Zhang et al. 2023, arXiv:2302.05543, on diffusers' modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from . import names

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Residuals:
    """What a U-Net adds: down, to each of its skips from shallow to deep; middle, to its middle block's output."""

    down: tuple[Tensor, ...]
    middle: Tensor | None


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
    )


def _depth(shapes: Shapes, attention: str) -> int:
    found = [re.match(rf"{re.escape(attention)}\.transformer_blocks\.(\d+)\.", name) for name in shapes]
    return max((int(match[1]) + 1 for match in found if match), default=0)


def build(layout: Layout, heads: tuple[int, ...], groups: int) -> ControlNetModel:
    """The network without weights (on the meta device). heads: of the U-Net's levels; a file doesn't tell them."""
    vector = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": layout.vector_width,
    }
    with torch.device("meta"):
        return ControlNetModel(
            in_channels=layout.in_channels,
            conditioning_channels=layout.hint_channels,
            down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in layout.depths),
            mid_block_type="UNetMidBlock2DCrossAttn" if layout.middle_depth else "UNetMidBlock2D",
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
            **(vector if layout.vector_width else {}),
        )


class ControlNetwork:
    """A control network with its weights on a device.

    pooled: each residual is its mean over the picture (shuffle models).
    """

    def __init__(self, module: ControlNetModel, layout: Layout, pooled: bool = False):
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

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        return (self.module,)

    def read(self, hint: Tensor) -> Tensor:
        """What it makes of the map before any noise is seen. hint: (1, C, 8h, 8w) in [0, 1]. Returns: (1, C', h, w)."""
        weight = self.module.conv_in.weight
        embedded: Tensor = self.module.controlnet_cond_embedding(hint.to(weight.device, weight.dtype))
        return embedded

    def residuals(
        self, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor | None, read: Tensor
    ) -> Residuals:
        """x: (N, C, h, w) scaled input. timesteps: (N,). context: (N, T, D). read: what `read` gave."""
        net: Any = self.module
        weight = net.conv_in.weight
        x, context = x.to(weight.device, weight.dtype), context.to(weight.device, weight.dtype)
        time = net.time_embedding(net.time_proj(timesteps.to(weight.device)).to(weight.dtype))
        if self.layout.vector_width and vector is not None:
            time = time + net.add_embedding(vector.to(weight.device, weight.dtype))
        sample = net.conv_in(x) + read
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


def mean(residual: Tensor) -> Tensor:
    """(N, C, h, w) to (N, C, 1, 1), which is added everywhere."""
    return residual.mean(dim=(2, 3), keepdim=True)
