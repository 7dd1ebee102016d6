"""SD 3's network: its sizes read from a checkpoint's shapes, its names in both spellings.

The files fuse q, k and v and keep shift before scale in the last modulations; diffusers has them the other way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from webui.catalog.shapes import MAX_LAYERS, Shapes, size_of
from webui.core.errors import BadModelFile
from webui.models.components import Source

HEAD_WIDTH = 64
PATCH = 2
OUTER_NAMES: Mapping[str, str] = {
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "proj_out": "final_layer.linear",
}
BLOCK_NAMES: Mapping[str, str] = {
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
FUSED: Mapping[str, tuple[str, int]] = {
    "attn.to_q": ("x_block.attn.qkv", 0),
    "attn.to_k": ("x_block.attn.qkv", 1),
    "attn.to_v": ("x_block.attn.qkv", 2),
    "attn.add_q_proj": ("context_block.attn.qkv", 0),
    "attn.add_k_proj": ("context_block.attn.qkv", 1),
    "attn.add_v_proj": ("context_block.attn.qkv", 2),
    "attn2.to_q": ("x_block.attn2.qkv", 0),
    "attn2.to_k": ("x_block.attn2.qkv", 1),
    "attn2.to_v": ("x_block.attn2.qkv", 2),
}


@dataclass(frozen=True)
class TransformerLayout:
    """positions: side of the grid of position embeddings, in patches. dual: blocks with a second self-attention.

    normed: q and k are normalised (SD 3.5).
    """

    channels: int
    width: int
    depth: int
    context_width: int
    pooled_width: int
    positions: int
    dual: tuple[int, ...]
    normed: bool


def read_transformer_layout(shapes: Shapes, prefix: str, file: str) -> TransformerLayout:
    """Raises: BadModelFile when keys that every such network has are missing or don't make one."""
    blocks = f"{prefix}joint_blocks."
    depth = next(n for n in itertools.count() if f"{blocks}{n}.x_block.attn.qkv.weight" not in shapes)
    width = size_of(shapes, f"{prefix}x_embedder.proj.weight", 0, file)
    places = size_of(shapes, f"{prefix}pos_embed", 1, file)
    side = math.isqrt(places)
    if not 1 <= depth <= MAX_LAYERS or width % HEAD_WIDTH or side * side != places:
        raise BadModelFile(f"{file} has an impossible network: {depth} blocks of {width} channels, {places} positions.")
    return TransformerLayout(
        channels=size_of(shapes, f"{prefix}x_embedder.proj.weight", 1, file),
        width=width,
        depth=depth,
        context_width=size_of(shapes, f"{prefix}context_embedder.weight", 1, file),
        pooled_width=size_of(shapes, f"{prefix}y_embedder.mlp.0.weight", 1, file),
        positions=side,
        dual=tuple(n for n in range(depth) if f"{blocks}{n}.x_block.attn2.qkv.weight" in shapes),
        normed=f"{blocks}0.x_block.attn.ln_q.weight" in shapes,
    )


def build_transformer(layout: TransformerLayout, sample_size: int) -> SD3Transformer2DModel:
    """The network without weights (on the meta device). sample_size: native latent height."""
    with torch.device("meta"):
        return SD3Transformer2DModel(
            sample_size=sample_size,
            patch_size=PATCH,
            in_channels=layout.channels,
            out_channels=layout.channels,
            num_layers=layout.depth,
            attention_head_dim=HEAD_WIDTH,
            num_attention_heads=layout.width // HEAD_WIDTH,
            joint_attention_dim=layout.context_width,
            caption_projection_dim=layout.width,
            pooled_projection_dim=layout.pooled_width,
            pos_embed_max_size=layout.positions,
            dual_attention_layers=layout.dual,
            qk_norm="rms_norm" if layout.normed else None,
        )


def transformer_sources(layout: TransformerLayout, keys: Iterable[str], prefix: str) -> dict[str, Source]:
    """Each of diffusers' `keys` -> where the file has it."""
    return {key: _source(layout, key, prefix) for key in keys}


def _source(layout: TransformerLayout, key: str, prefix: str) -> Source:
    name, _, kind = key.rpartition(".")
    if key == "pos_embed.pos_embed":
        return Source(f"{prefix}pos_embed")
    if name == "norm_out.linear":
        return Source(f"{prefix}final_layer.adaLN_modulation.1.{kind}", swapped=True)
    if name in OUTER_NAMES:
        return Source(f"{prefix}{OUTER_NAMES[name]}.{kind}")
    _, number, part = name.split(".", 2)
    block = f"{prefix}joint_blocks.{number}."
    if part in FUSED:
        stored, index = FUSED[part]
        return Source(f"{block}{stored}.{kind}", index, 3)
    last_text = part == "norm1_context.linear" and int(number) == layout.depth - 1
    return Source(f"{block}{BLOCK_NAMES[part]}.{kind}", swapped=last_text)
