"""Which module of the loaded model a network file means by a name.

Underscores are never turned back into dots (`to_out_0` has both): every module of the model is listed under each
spelling it has, diffusers' and LDM's, and names are looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from webui.catalog.ldm_names import RESNET_NAMES
from webui.models.families.base import LoadedModel

UNET_PREFIXES = ("lora_unet_", "oft_unet_", "unet.", "lora_transformer_", "transformer.", "diffusion_model.")
ANY_PREFIXES = ("lycoris_", "base_model.model.")
"""What generic wrappers write, whichever part of the model they wrap: the network is tried first."""

TEXT_PREFIXES: Mapping[str, int] = {
    "lora_te1_": 0,
    "oft_te1_": 0,
    "lora_te2_": 1,
    "oft_te2_": 1,
    "lora_te3_": 2,
    "text_encoder_2.": 1,
    "text_encoder_3.": 2,
    "text_encoder.": 0,
}
"""Prefix -> which text encoder of the model, counted from 0."""

SINGLE_TEXT_PREFIXES = ("lora_te_", "oft_te_")
"""What trainers write when there is but one text encoder; SDXL's files are seldom spelled so."""


@dataclass(frozen=True, eq=False)
class Target:
    """A module whose weight can be changed. part: "unet", or "te0", "te1", ... for the text encoders."""

    part: str
    path: str
    module: nn.Module

    @property
    def is_text(self) -> bool:
        return self.part != "unet"

    @property
    def weight(self) -> nn.Parameter:
        """The parameter that is in place now."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter), "only modules with a weight are targets"
        return weight

    def put(self, weight: nn.Parameter) -> None:
        """Let the module compute with another parameter."""
        self.module.weight = weight


class NameTable:
    """The modules of one model, by every name that files use."""

    def __init__(self, model: LoadedModel):
        encoders = [encoder.module for encoder in model.text_encoders]
        self._unet = _spellings("unet", model.unet, ldm_paths(model.unet))
        self._texts = [_spellings(f"te{number}", module, {}) for number, module in enumerate(encoders)]

    def find(self, name: str, *, sdxl: bool = False) -> Target | None:
        """name: of a module as a file writes it. sdxl: the file is known to be SDXL's, so that "te" is its first."""
        for prefix in UNET_PREFIXES:
            if name.startswith(prefix):
                return self._unet.get(_joined(name[len(prefix) :]))
        for prefix, number in TEXT_PREFIXES.items():
            if name.startswith(prefix):
                return self._text(number, name[len(prefix) :])
        for prefix in SINGLE_TEXT_PREFIXES:
            if name.startswith(prefix):
                return self._text(0, name[len(prefix) :]) if len(self._texts) == 1 or sdxl else None
        for prefix in ANY_PREFIXES:
            if name.startswith(prefix):
                return self._anywhere(name[len(prefix) :])
        return self._anywhere(name)

    def _text(self, number: int, name: str) -> Target | None:
        if number >= len(self._texts):
            return None
        return self._texts[number].get(_joined(name).removeprefix("text_model_"))

    def _anywhere(self, name: str) -> Target | None:
        found = self._unet.get(_joined(name))
        return found if found or not self._texts else self._text(0, name)


def _joined(name: str) -> str:
    return name.replace(".", "_")


def _spellings(part: str, module: nn.Module, ldm: Mapping[str, str]) -> dict[str, Target]:
    """Name with underscores -> module, for every module below `module` that has a weight."""
    table: dict[str, Target] = {}
    for path, inner in module.named_modules():
        if not isinstance(getattr(inner, "weight", None), nn.Parameter):
            continue
        short = path.removeprefix("text_model.")
        target = Target(part, path, inner)
        table[_joined(short)] = target
        if path in ldm:
            table[_joined(ldm[path])] = target
    return table


def ldm_paths(unet: Any) -> dict[str, str]:
    """Path of each module in diffusers' spelling -> in LDM's; nothing for networks that LDM doesn't know."""
    if not hasattr(unet, "down_blocks") or not hasattr(unet, "conv_in"):
        return {}
    outer = dict(_block_names(unet))
    paths = {}
    for path, _ in unet.named_modules():
        parts = path.split(".")
        cut = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in outer), 0)
        if cut:
            rest = parts[cut:]
            if rest and rest[0] in RESNET_NAMES:
                rest[0] = RESNET_NAMES[rest[0]]
            paths[path] = ".".join([outer[".".join(parts[:cut])], *rest])
    return paths


def _block_names(unet: Any) -> Iterator[tuple[str, str]]:
    """(diffusers' path, LDM's) of every ResNet, transformer, sampler and outer layer of a U-Net."""
    yield from _OUTER_NAMES
    number = 1
    for level, block in enumerate(unet.down_blocks):
        for item in range(len(block.resnets)):
            yield f"down_blocks.{level}.resnets.{item}", f"input_blocks.{number}.0"
            yield f"down_blocks.{level}.attentions.{item}", f"input_blocks.{number}.1"
            number += 1
        yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{number}.0.op"
        number += 1
    number = 0
    for level, block in enumerate(unet.up_blocks):
        for item in range(len(block.resnets)):
            yield f"up_blocks.{level}.resnets.{item}", f"output_blocks.{number}.0"
            yield f"up_blocks.{level}.attentions.{item}", f"output_blocks.{number}.1"
            number += 1
        place = 2 if getattr(block, "attentions", None) else 1
        yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{number - 1}.{place}.conv"


_OUTER_NAMES = (
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("mid_block.resnets.0", "middle_block.0"),
    ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
)


_OLD_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora$")
_OLD_TEXT = re.compile(r"\.(to_[qkv]|to_out)_lora$")
_OLD_TEXT_NAMES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def modern_name(name: str) -> str:
    """A module's name without the words that old diffusers put between it and the suffix."""
    old = _OLD_PROCESSOR.search(name)
    if old:
        inner = "to_out.0" if old[1] == "to_out" else old[1]
        return f"{name[: old.start()]}.{inner}"
    old = _OLD_TEXT.search(name)
    if old and name.startswith("text_encoder"):
        return f"{name[: old.start()]}.{_OLD_TEXT_NAMES[old[1]]}"
    return name
