"""The latent diffusion U-Net as files have it: its sizes read from shapes, its names in both spellings.

LDM counts blocks through (`input_blocks.4.1`), diffusers by level (`down_blocks.1.attentions.0`); the graph is
the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from webui.catalog.shapes import MAX_BLOCKS, MAX_LAYERS, MAX_LEVELS, Shapes, size_of
from webui.core.errors import BadModelFile

RESNET_NAMES: Mapping[str, str] = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


@dataclass(frozen=True)
class UNetLayout:
    """widths: channels per level. blocks: ResNets per level going down.

    down_depths, up_depths: transformer blocks after each ResNet, 0 for none, by level and in the order of LDM's
    blocks, so that `up_depths` begins with the last level. middle_depth: None when the middle is one ResNet alone.
    vector_width: of the vector a row that is added to the time embedding, 0 for none.
    linear: the transformers' outer projections are linear layers, not 1x1 convolutions.
    """

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    blocks: int
    down_depths: tuple[tuple[int, ...], ...]
    up_depths: tuple[tuple[int, ...], ...]
    middle_depth: int | None
    context_width: int
    vector_width: int = 0
    linear: bool = False

    @property
    def attends(self) -> tuple[bool, ...]:
        """Which levels have transformers."""
        return tuple(max(depths) > 0 for depths in self.down_depths)

    def depth(self, level: int) -> int:
        """The most transformer blocks of a level; the last one's count for the middle, too."""
        depths = [1, *self.down_depths[level], *self.up_depths[len(self.widths) - 1 - level]]
        return max(*depths, self.middle_depth or 0) if level == len(self.widths) - 1 else max(depths)


def read_unet_layout(shapes: Shapes, prefix: str, file: str, *, linear: bool = False) -> UNetLayout:
    """Sizes of the U-Net whose keys begin with `prefix`. linear: see `UNetLayout`; shapes don't always tell.

    Raises: BadModelFile when keys that every such U-Net has are missing, or the levels don't make one.
    """
    widths: list[int] = []
    depths: list[tuple[int, ...]] = []
    level: list[int] = []
    width = 0
    for block in itertools.count(1):
        name = f"{prefix}input_blocks.{block}"
        if f"{name}.0.out_layers.3.weight" in shapes:
            width = size_of(shapes, f"{name}.0.out_layers.3.weight", 0, file)
            level.append(_transformer_depth(shapes, f"{name}.1"))
            continue
        if level:  # a level ends at its downsampler, the last one where the blocks end
            widths.append(width)
            depths.append(tuple(level))
            level = []
        if f"{name}.0.op.weight" not in shapes:
            break
    counts = [len(level) for level in depths]
    attended = [any(level) for level in depths]
    if not 2 <= len(widths) <= MAX_LEVELS or len(set(counts)) != 1 or counts[0] > MAX_BLOCKS or not any(attended):
        found = str(counts)[:80]
        raise BadModelFile(f"{file} has no complete U-Net: {len(widths)} levels with {found} blocks were found.")
    first = f"{prefix}input_blocks.{1 + attended.index(True) * (counts[0] + 1)}.1"
    per_level = counts[0] + 1
    ups = [_transformer_depth(shapes, f"{prefix}output_blocks.{n}.1") for n in range(len(widths) * per_level)]
    alone = not any(key.startswith((f"{prefix}middle_block.1.", f"{prefix}middle_block.2.")) for key in shapes)
    return UNetLayout(
        in_channels=size_of(shapes, f"{prefix}input_blocks.0.0.weight", 1, file),
        out_channels=size_of(shapes, f"{prefix}out.2.weight", 0, file),
        widths=tuple(widths),
        blocks=counts[0],
        down_depths=tuple(depths),
        up_depths=tuple(tuple(ups[start : start + per_level]) for start in range(0, len(ups), per_level)),
        middle_depth=None if alone else _transformer_depth(shapes, f"{prefix}middle_block.1"),
        context_width=size_of(shapes, f"{first}.transformer_blocks.0.attn2.to_k.weight", 1, file),
        vector_width=size_of(shapes, f"{prefix}label_emb.0.0.weight", 1, file) if _has_vector(shapes, prefix) else 0,
        linear=linear,
    )


def _has_vector(shapes: Shapes, prefix: str) -> bool:
    return f"{prefix}label_emb.0.0.weight" in shapes


def _transformer_depth(shapes: Shapes, name: str) -> int:
    depth = 0
    while depth < MAX_LAYERS and f"{name}.transformer_blocks.{depth}.norm1.weight" in shapes:
        depth += 1
    return depth


def ldm_unet_modules(layout: UNetLayout) -> dict[str, str]:
    """Module path in diffusers' spelling -> in LDM's, for every ResNet, transformer, sampler and outer layer."""
    levels, per_level = len(layout.widths), layout.blocks + 1
    names = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
    }
    for level in range(levels):
        for item in range(layout.blocks):
            block = 1 + level * per_level + item
            names[f"down_blocks.{level}.resnets.{item}"] = f"input_blocks.{block}.0"
            names[f"down_blocks.{level}.attentions.{item}"] = f"input_blocks.{block}.1"
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{(level + 1) * per_level}.0.op"
    for up in range(levels):
        for item in range(per_level):
            names[f"up_blocks.{up}.resnets.{item}"] = f"output_blocks.{up * per_level + item}.0"
            names[f"up_blocks.{up}.attentions.{item}"] = f"output_blocks.{up * per_level + item}.1"
        index = 2 if layout.attends[levels - 1 - up] else 1
        names[f"up_blocks.{up}.upsamplers.0.conv"] = f"output_blocks.{up * per_level + layout.blocks}.{index}.conv"
    return names


def ldm_unet_keys(layout: UNetLayout, keys: Iterable[str], *, others: bool = True) -> dict[str, str]:
    """Each of diffusers' `keys` -> the key of the same weight in LDM's spelling, without prefix.

    others: whether a key that no such U-Net has is a fault of ours; else it is left out.
    """
    modules = ldm_unet_modules(layout)
    spelled = {}
    for key in keys:
        parts = key.split(".")
        cut = next((n for n in range(len(parts) - 1, 0, -1) if ".".join(parts[:n]) in modules), 0)
        if not cut:
            assert not others, f"{key} belongs to no module of the U-Net"
            continue
        rest = parts[cut:]
        if rest[0] in RESNET_NAMES:
            rest[0] = RESNET_NAMES[rest[0]]
        spelled[key] = ".".join([modules[".".join(parts[:cut])], *rest])
    return spelled
