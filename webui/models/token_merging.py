"""Token merging: similar pixels share one place in self-attention, which makes big pictures faster and rougher.

Source: Bolya and Hoffman 2023, arXiv:2303.17604; the matching is that of their library, tomesd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

Merge = Callable[[Tensor], Tensor]

CELL = 2
"""One token in every cell of CELL x CELL stays; the others may be merged into it."""


@contextmanager
def merged_tokens(unet: nn.Module, ratio: float) -> Iterator[None]:
    """Merge in every transformer block that works at the latent's own size, until the context ends.

    ratio: share of the tokens that are merged into others, 0 (nothing is touched) up to below 1.
    Nothing is drawn at random: in each cell the top left token stays.
    """
    with ExitStack() as hooks:
        if ratio > 0:
            size = _LatentSize()
            hooks.enter_context(unet.register_forward_pre_hook(size, with_kwargs=True))
            for module in unet.modules():
                if isinstance(module, BasicTransformerBlock):
                    merging = _Merging(size, ratio)
                    hooks.enter_context(module.register_forward_pre_hook(merging.match))
                    hooks.enter_context(module.attn1.register_forward_pre_hook(merging.merge))
                    hooks.enter_context(module.attn1.register_forward_hook(merging.unmerge))
        yield


class _LatentSize:
    """Remembers height and width of what the network is given."""

    height = width = 0

    def __call__(self, unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["sample"]
        self.height, self.width = x.shape[-2:]


class _Merging:
    """The hooks around one block's self-attention; which tokens are alike is found anew for every call."""

    def __init__(self, size: _LatentSize, ratio: float) -> None:
        self.size = size
        self.ratio = ratio
        self._pair: tuple[Merge, Merge] | None = None

    def match(self, block: nn.Module, args: tuple[Any, ...]) -> None:
        """args: the block's input first, (N, tokens, D)."""
        from tomesd.merge import bipartite_soft_matching_random2d

        x: Tensor = args[0]
        height, width = self.size.height, self.size.width
        self._pair = None
        at_full_size = math.ceil(math.sqrt(height * width // x.shape[1])) == 1
        if at_full_size and min(height, width) >= CELL:
            merged = int(x.shape[1] * self.ratio)
            self._pair = bipartite_soft_matching_random2d(x, width, height, CELL, CELL, merged, no_rand=True)

    def merge(self, attention: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args if self._pair is None else (self._pair[0](args[0]), *args[1:])

    def unmerge(self, attention: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output if self._pair is None else self._pair[1](output)
