"""Control-LoRA: a control network told as what it adds to the U-Net's own encoder, in matrices of low rank.

Stability AI 2023, "Control-LoRA". Whatever the file has neither whole nor as matrices is the U-Net's.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from . import names

ENCODER = ("conv_in.", "time_embedding.", "add_embedding.", "down_blocks.", "mid_block.")
"""Parts of a U-Net that a control network copies."""
FLAG = "lora_controlnet"


def completed(weights: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The control network's weights under diffusers' names.

    weights: as a file has them. base: the U-Net's. Raises: KeyError, RuntimeError when they aren't for this U-Net.
    """
    named = names.as_diffusers({name: weight for name, weight in names.bare(weights).items() if name != FLAG})
    made = {name: weight for name, weight in base.items() if name.startswith(ENCODER)}
    for name, weight in named.items():
        if name.endswith(".up"):
            target = name.removesuffix(".up") + ".weight"
            down, whole = named[name.removesuffix(".up") + ".down"], base[target].float()
            added = weight.to(whole).flatten(1) @ down.to(whole).flatten(1)
            made[target] = whole + added.reshape(whole.shape)
        elif not name.endswith(".down"):
            made[name] = weight
    return made


def is_for_sd1(weights: Mapping[str, Tensor]) -> bool:
    """Whether it has SD 1.x's twelve blocks on the way down, not SDXL's nine."""
    return any(name.startswith("input_blocks.11.0.in_layers.0.") for name in names.bare(weights))
