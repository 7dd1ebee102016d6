"""The latent diffusion autoencoder: its sizes read from shapes, its names in both spellings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from webui.catalog.shapes import MAX_BLOCKS, MAX_LEVELS, Shapes, size_of
from webui.core.errors import BadModelFile

ATTENTION_NAMES: Mapping[str, tuple[str, ...]] = {
    "group_norm": ("norm", "group_norm"),
    "to_q": ("q", "to_q", "query"),
    "to_k": ("k", "to_k", "key"),
    "to_v": ("v", "to_v", "value"),
    "to_out": ("proj_out", "to_out.0", "proj_attn"),
}
"""diffusers' name -> LDM's, then the spellings that converters left behind."""


@dataclass(frozen=True)
class VaeLayout:
    """widths: channels per level. blocks: ResNets per level of the encoder (the decoder has one more).

    diffusers: the file has diffusers' names instead of LDM's.
    """

    latent_channels: int
    widths: tuple[int, ...]
    blocks: int
    quant_convs: bool
    diffusers: bool = False


def read_vae_layout(shapes: Shapes, prefix: str, file: str) -> VaeLayout:
    """Raises: BadModelFile when keys that every such autoencoder has are missing."""
    widths: list[int] = []
    blocks = 0
    diffusers = f"{prefix}encoder.down_blocks.0.resnets.0.conv1.weight" in shapes
    for level in itertools.count():
        name = f"{prefix}encoder.down_blocks.{level}.resnets" if diffusers else f"{prefix}encoder.down.{level}.block"
        if f"{name}.0.conv1.weight" not in shapes:
            break
        widths.append(size_of(shapes, f"{name}.0.conv1.weight", 0, file))
        blocks = next(n for n in itertools.count(1) if f"{name}.{n}.conv1.weight" not in shapes)
    if not widths:
        raise BadModelFile(f"{file} has no VAE ({prefix}encoder); it is incomplete.")
    if len(widths) > MAX_LEVELS or blocks > MAX_BLOCKS:
        raise BadModelFile(f"{file} has an impossible VAE: {len(widths)} levels with {blocks} blocks.")
    return VaeLayout(
        latent_channels=size_of(shapes, f"{prefix}decoder.conv_in.weight", 1, file),
        widths=tuple(widths),
        blocks=blocks,
        quant_convs=f"{prefix}post_quant_conv.weight" in shapes,
        diffusers=diffusers,
    )


def build_vae(layout: VaeLayout, groups: int, scale: float, sample_size: int) -> AutoencoderKL:
    """The autoencoder without weights (on the meta device)."""
    levels = len(layout.widths)
    with torch.device("meta"):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=layout.widths,
            layers_per_block=layout.blocks,
            latent_channels=layout.latent_channels,
            norm_num_groups=groups,
            sample_size=sample_size,
            scaling_factor=scale,
            use_quant_conv=layout.quant_convs,
            use_post_quant_conv=layout.quant_convs,
        )


def ldm_vae_keys(layout: VaeLayout, keys: Iterable[str], prefix: str, shapes: Shapes) -> dict[str, str]:
    """Each of diffusers' `keys` -> the key of the same weight in `shapes` (the layout's own if none is there)."""
    if layout.diffusers:
        return {key: _diffusers_key(key, prefix, shapes) for key in keys}
    return {key: _ldm_key(layout, key, prefix, shapes) for key in keys}


def _diffusers_key(key: str, prefix: str, shapes: Shapes) -> str:
    """The same name, but for attention in the spelling of old versions."""
    before, attention, name = key.partition(".attentions.0.")
    if not attention:
        return prefix + key
    part, *_, kind = name.split(".")  # to_q.weight, to_out.0.bias
    names = [f"{prefix}{before}{attention}{spelling}.{kind}" for spelling in ATTENTION_NAMES[part]]
    return next((known for known in names if known in shapes), prefix + key)


def _ldm_key(layout: VaeLayout, key: str, prefix: str, shapes: Shapes) -> str:
    parts = key.split(".")
    if parts[1].endswith("blocks"):  # encoder.down_blocks.0.resnets.1.conv1, decoder.up_blocks.0.upsamplers.0.conv
        side, stack, index, kind, item, *rest = parts
        level = int(index) if stack == "down_blocks" else len(layout.widths) - 1 - int(index)
        where = f"{side}.{stack.removesuffix('_blocks')}.{level}"
        if kind == "resnets":
            return f"{prefix}{where}.block.{item}.{_resnet(rest)}"
        return f"{prefix}{where}.{kind.removesuffix('rs')}.{'.'.join(rest)}"
    if parts[1] == "mid_block":
        side, _, kind, item, *rest = parts
        if kind == "resnets":
            return f"{prefix}{side}.mid.block_{int(item) + 1}.{_resnet(rest)}"
        names = [f"{prefix}{side}.mid.attn_1.{name}.{rest[-1]}" for name in ATTENTION_NAMES[rest[0]]]
        return next((name for name in names if name in shapes), names[0])
    return prefix + key.replace("conv_norm_out", "norm_out")


def _resnet(rest: list[str]) -> str:
    return ".".join(rest).replace("conv_shortcut", "nin_shortcut")
