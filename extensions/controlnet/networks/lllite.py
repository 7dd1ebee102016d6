"""ControlLLLite: small networks at the inputs of a U-Net's attention layers, each of which reads the map.

kohya-ss 2023, "ControlNet-LLLite".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .names import diffusers_name

PREFIX = "lllite_unet_"
LDM = re.compile(r"(input_blocks|middle_block|output_blocks)_(?:(\d+)_)?(\d+)_(.+)")


class LLLite(nn.Module):
    """One of them, for a linear layer. shapes: of its weights by name."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        places = sorted(int(name.split(".")[1]) for name in shapes if re.fullmatch(r"conditioning1\.\d+\.weight", name))
        layers: list[nn.Module] = []
        for place in places:
            given, taken, side, _ = shapes[f"conditioning1.{place}.weight"]
            layers += [nn.Conv2d(taken, given, side, stride=side), nn.ReLU()]
        self.conditioning1 = nn.Sequential(*layers[:-1])
        narrow, width = shapes["down.0.weight"]
        self.down = nn.Sequential(nn.Linear(width, narrow), nn.ReLU())
        self.mid = nn.Sequential(nn.Linear(shapes["mid.0.weight"][1], narrow), nn.ReLU())
        self.up = nn.Sequential(nn.Linear(narrow, width))

    def read(self, hint: Tensor, size: tuple[int, int]) -> Tensor:
        """(1, h * w, D) of a map (1, 3, H, W) in [0, 1] for a layer of h x w tokens."""
        weight = self.up[0].weight
        seen = self.conditioning1(hint.to(weight.device, weight.dtype) * 2 - 1)
        if seen.shape[-2:] != size:  # the U-Net rounds odd sides up where the convolutions round down
            seen = F.interpolate(seen, size=size, mode="nearest")
        made: Tensor = seen.flatten(2).transpose(1, 2)
        return made

    def added(self, x: Tensor, read: Tensor) -> Tensor:
        """What the layer's input (N, T, D) gets beside. read: (1, T, D'), what the map was read as."""
        made: Tensor = self.up(self.mid(torch.cat([read.expand(len(x), -1, -1), self.down(x)], dim=-1)))
        return made


class LLLiteNetwork(nn.Module):
    """All of a file. layers: the U-Net's layer that each belongs to."""

    def __init__(self, modules: Mapping[str, LLLite]) -> None:
        super().__init__()
        self.layers = tuple(modules)
        self.parts = nn.ModuleList(modules.values())


def load(weights: Mapping[str, Tensor], unet: Any, device: torch.device, dtype: torch.dtype) -> LLLiteNetwork:
    """weights: as a file has them. Raises: KeyError for layers that the U-Net doesn't have, RuntimeError for sizes."""
    by_layer: dict[str, dict[str, Tensor]] = {}
    for name, weight in weights.items():
        layer, _, rest = name.partition(".")
        by_layer.setdefault(layer, {})[rest] = weight
    known = {name.replace(".", "_"): name for name, module in unet.named_modules() if isinstance(module, nn.Linear)}
    modules = {}
    for layer, own in by_layer.items():
        target = known[_in_diffusers(layer.removeprefix(PREFIX), len(unet.down_blocks[0].resnets))]
        with torch.device("meta"):
            module = LLLite({name: tuple(weight.shape) for name, weight in own.items()})
        module.load_state_dict({name: weight.to(device, dtype) for name, weight in own.items()}, assign=True)
        if unet.get_submodule(target).in_features != module.down[0].in_features:
            raise KeyError(layer)
        modules[target] = module
    return LLLiteNetwork(modules).eval().requires_grad_(False)


def _in_diffusers(layer: str, blocks: int) -> str:
    """A layer's name, with underscores, in diffusers' naming. blocks: ResNets a level on the way down."""
    match = LDM.fullmatch(layer)
    if match is None:
        return layer
    part, number, place, rest = match.groups()
    if part == "output_blocks":
        level, block = divmod(int(number), blocks + 1)
        return f"up_blocks_{level}_attentions_{block}_{rest}"
    ldm = f"{part}.{number}.{place}.{rest}" if number else f"{part}.{place}.{rest}"
    return diffusers_name(ldm, blocks, 0).replace(".", "_")


def is_for_xl(weights: Mapping[str, Tensor]) -> bool:
    """Whether a layer lies deeper in a transformer than SD 1.x's have blocks."""
    return any("transformer_blocks_1_" in name for name in weights)
