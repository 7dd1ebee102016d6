"""The names of a control network's weights: LDM's, as ControlNet 1.0 and 1.1 have them, turned into diffusers'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

PREFIXES = ("control_model.", "adapter.")
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
OUTER = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "middle_block_out.0": "controlnet_mid_block",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
}


def bare(weights: Mapping[str, T]) -> dict[str, T]:
    """The weights without a prefix that all names of a file begin with."""
    for prefix in PREFIXES:
        if any(name.startswith(prefix) for name in weights):
            return {name.removeprefix(prefix): weight for name, weight in weights.items()}
    return dict(weights)


def is_ldm(names: Iterable[str]) -> bool:
    return any(name.startswith("input_hint_block.") for name in names)


def as_diffusers(weights: Mapping[str, T]) -> dict[str, T]:
    """Weights of an LDM control network under diffusers' names; others as they are. `weights` have no prefix."""
    if not is_ldm(weights):
        return dict(weights)
    ops = (re.match(r"input_blocks\.(\d+)\.0\.op\.", name) for name in weights)
    inputs = {int(name.split(".")[1]) for name in weights if name.startswith("input_blocks.")}
    blocks = min((int(match[1]) for match in ops if match), default=max(inputs) + 1) - 1
    hints = max(int(name.split(".")[1]) for name in weights if name.startswith("input_hint_block."))
    return {diffusers_name(name, blocks, hints): weight for name, weight in weights.items()}


def diffusers_name(name: str, blocks: int, last_hint: int) -> str:
    """blocks: ResNets a level. last_hint: number of the last layer that reads the map."""
    if match := re.fullmatch(r"input_hint_block\.(\d+)\.(.+)", name):
        number = int(match[1])
        layer = "conv_in" if number == 0 else "conv_out" if number == last_hint else f"blocks.{number // 2 - 1}"
        return f"controlnet_cond_embedding.{layer}.{match[2]}"
    if match := re.fullmatch(r"zero_convs\.(\d+)\.0\.(.+)", name):
        return f"controlnet_down_blocks.{match[1]}.{match[2]}"
    for ldm, ours in OUTER.items():
        if name.startswith(ldm + "."):
            rest = name[len(ldm) + 1 :]
            return f"{ours}.{_resnet(rest) if '.resnets.' in ours else rest}"
    if match := re.fullmatch(r"input_blocks\.(\d+)\.(\d)\.(.+)", name):
        level, place = divmod(int(match[1]) - 1, blocks + 1)
        if place == blocks:
            return f"down_blocks.{level}.downsamplers.0.{match[3].replace('op.', 'conv.')}"
        if match[2] == "0":
            return f"down_blocks.{level}.resnets.{place}.{_resnet(match[3])}"
        return f"down_blocks.{level}.attentions.{place}.{match[3]}"
    return name


def _resnet(rest: str) -> str:
    layer, _, end = rest.rpartition(".")
    return f"{RESNET.get(layer, layer)}.{end}"
