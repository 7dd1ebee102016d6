"""T2I-Adapter: a small network that reads a map once and answers what each level of the U-Net is to add.

Mou et al. 2023, arXiv:2302.08453.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

T = TypeVar("T")
UNSHUFFLE = {1: 8, 64: 8, 192: 8, 256: 16, 768: 16}
"""Channels of the first layer -> the side of the squares of pixels that become channels."""


class Block(nn.Module):
    """A residual block; `halves` brings what comes in to half its size first."""

    def __init__(self, taken: int, given: int, middle_kernel: int, last_kernel: int, halves: bool, fits: bool):
        super().__init__()
        self.halves = halves
        self.in_conv = nn.Conv2d(taken, given, 1) if fits else None
        self.block1 = nn.Conv2d(given, given, middle_kernel, padding=middle_kernel // 2)
        self.block2 = nn.Conv2d(given, given, last_kernel, padding=last_kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.halves:
            x = F.avg_pool2d(x, 2)
        if self.in_conv is not None:
            x = self.in_conv(x)
        return x + self.block2(F.relu(self.block1(x)))


class T2IAdapter(nn.Module):
    """The network of a file. squares: see UNSHUFFLE. blocks: a level."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], blocks: int = 2):
        super().__init__()
        width, channels = shapes["conv_in.weight"][:2]
        self.squares, self.blocks = UNSHUFFLE[channels], blocks
        self.channels = channels // self.squares**2
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        count = 1 + max(int(match[1]) for name in shapes if (match := re.match(r"body\.(\d+)\.", name)))
        made = []
        for number in range(count):
            given = shapes[f"body.{number}.block1.weight"][0]
            kernels = (shapes[f"body.{number}.{layer}.weight"][2] for layer in ("block1", "block2"))
            # SDXL's adapters begin with squares of 16, so that only one of their levels is made smaller.
            level, place = divmod(number, blocks)
            halves = place == 0 and level > 0 and (self.squares == 8 or level == 2)
            made.append(Block(width, given, *kernels, halves, f"body.{number}.in_conv.weight" in shapes))
            width = given
        self.body = nn.ModuleList(made)

    @property
    def is_for_xl(self) -> bool:
        return self.squares == 16

    def forward(self, hint: Tensor) -> list[Tensor]:
        """hint: (M, C, H, W) in [0, 1]. Returns: a tensor (M, C', h, w) a level."""
        weight = self.conv_in.weight
        hint = hint[:, : self.channels].to(weight.device, weight.dtype)
        x = self.conv_in(F.pixel_unshuffle(hint, self.squares))
        features = []
        for number, block in enumerate(self.body, start=1):
            x = block(x)
            if number % self.blocks == 0:
                features.append(x)
        return features


def original_names(weights: Mapping[str, T], blocks: int = 2) -> dict[str, T]:
    """Weights under the names of the original layout, from there or from diffusers'."""
    named = {}
    for name, weight in weights.items():
        name = name.removeprefix("adapter.")
        if match := re.fullmatch(r"body\.(\d+)\.resnets\.(\d+)\.(.+)", name):
            name = f"body.{int(match[1]) * blocks + int(match[2])}.{match[3]}"
        elif match := re.fullmatch(r"body\.(\d+)\.in_conv\.(.+)", name):
            is_diffusers = any(".resnets." in other for other in weights)
            name = f"body.{int(match[1]) * (blocks if is_diffusers else 1)}.in_conv.{match[2]}"
        named[name] = weight
    return named


def load(weights: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> T2IAdapter:
    """weights: as a file has them. Raises: KeyError, RuntimeError for other files."""
    named = original_names(weights)
    with torch.device("meta"):
        network = T2IAdapter({name: tuple(weight.shape) for name, weight in named.items()})
    network.load_state_dict({name: weight.to(device, dtype) for name, weight in named.items()}, assign=True)
    return network.eval().requires_grad_(False)
