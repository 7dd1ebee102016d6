"""Attention within tiles; in the worker only."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from webui.extensions.api import DenoiserHook

LEAST = 128
"""Pixels of a tile's side at least."""


class Tiling:
    """How a picture is cut. With the same seed the same tiles are drawn, call by call.

    max_tile: pixels of a tile's side that are aimed at. choices: the smallest so many ways of cutting from that size
    on are drawn from, so that seams fall elsewhere in each layer and step.
    """

    def __init__(self, max_tile: int, choices: int, seed: int) -> None:
        self.latent_tile = max(LEAST, max_tile) // 8
        self.choices = max(choices, 1)
        self.random = random.Random(seed)

    def cuts(self, height: int, width: int, factor: int = 1) -> tuple[int, int]:
        """Into how many parts height and width are cut. factor: by how much larger the tiles are."""
        least = self.latent_tile * factor
        return self._parts(height, least), self._parts(width, least)

    def _parts(self, length: int, least: int) -> int:
        """A drawn number of equal parts, each at least `least` long where the length is."""
        sizes = [size for size in range(min(least, length), length + 1) if length % size == 0]
        return length // self.random.choice(sizes[: self.choices])


class UNetTiling(DenoiserHook):
    """The self-attention of a U-Net down to `max_depth`, counted over the resolutions that attend at all, from 0.

    To be attached before hooks whose processors look at other pictures, too: those then call these, with the whole.
    """

    def __init__(self, tiling: Tiling, max_depth: int) -> None:
        self.tiling = tiling
        self.max_depth = max_depth
        self.size = (0, 0)

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        levels = list(attention_levels(network))
        depths = {level: depth for depth, level in enumerate(sorted({level for level, _ in levels}))}
        with ExitStack() as patches:
            for level, block in levels:
                if depths[level] <= self.max_depth:
                    before = block.attn1.processor
                    block.attn1.processor = TiledTokens(self, before, level, 2 ** depths[level])
                    patches.callback(setattr, block.attn1, "processor", before)
            yield

    def wrap_call(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def sized(x: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            self.size = (x.shape[-2], x.shape[-1])
            return call(x, timesteps, cond)

        return sized


def attention_levels(network: Any) -> Iterator[tuple[int, BasicTransformerBlock]]:
    """(how often the latent's side is halved, transformer block) of a diffusers U-Net."""
    deepest = len(network.down_blocks) - 1
    parts = [(level, block) for level, block in enumerate(network.down_blocks)]
    parts += [(deepest, network.mid_block)]
    parts += [(deepest - place, block) for place, block in enumerate(network.up_blocks)]
    for level, part in parts:
        for module in part.modules():
            if isinstance(module, BasicTransformerBlock):
                yield level, module


class TiledTokens:
    """An attention processor that lets the one before it see one tile at a time.

    level: how often the latent's side is halved. factor: see `Tiling.cuts`.
    """

    def __init__(self, hook: UNetTiling, before: Any, level: int, factor: int) -> None:
        self.hook = hook
        self.before = before
        self.level = level
        self.factor = factor

    def __call__(self, attention: nn.Module, hidden_states: Tensor, *args: Any, **more: Any) -> Tensor:
        height, width = self.hook.size
        for _ in range(self.level):
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        elsewhere = any(item is not None for item in (*args, *more.values()))
        if hidden_states.shape[1] != height * width or elsewhere:  # merged tokens, or attention to more than itself
            whole: Tensor = self.before(attention, hidden_states, *args, **more)
            return whole
        down, across = self.hook.tiling.cuts(height, width, self.factor)
        tiles = hidden_states.unflatten(1, (down, height // down, across, width // across))
        tiles = tiles.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(0, 2)
        seen = self.before(attention, tiles, *args, **more)
        seen = seen.unflatten(0, (-1, down, across)).unflatten(3, (height // down, width // across))
        joined: Tensor = seen.permute(0, 1, 3, 2, 4, 5).flatten(1, 4)
        return joined


class TiledPicture:
    """The same for a VAE's attention, which is given the whole (B, C, h, w)."""

    def __init__(self, tiling: Tiling, before: Any) -> None:
        self.tiling = tiling
        self.before = before

    def __call__(self, attention: nn.Module, hidden_states: Tensor, *args: Any, **more: Any) -> Tensor:
        height, width = hidden_states.shape[-2:]
        down, across = self.tiling.cuts(height, width)
        tiles = hidden_states.unflatten(3, (across, width // across)).unflatten(2, (down, height // down))
        tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        seen = self.before(attention, tiles, *args, **more)
        seen = seen.unflatten(0, (-1, down, across)).permute(0, 3, 1, 4, 2, 5)
        joined: Tensor = seen.flatten(4, 5).flatten(2, 3)
        return joined


@contextmanager
def tiled_vae(vae: Any, tiling: Tiling) -> Iterator[None]:
    """The attention of encoder and decoder in tiles, until the context ends."""
    with ExitStack() as patches:
        for half in (vae.encoder, vae.decoder):
            for attention in half.mid_block.attentions:
                if attention is not None:
                    before = attention.processor
                    attention.processor = TiledPicture(tiling, before)
                    patches.callback(setattr, attention, "processor", before)
        yield
