"""StyleAlign: the pictures of a batch look at each other in self-attention, which gives them one style.

Hertz et al. 2023, arXiv:2312.02133, with all pictures of the batch shared alike. Imported in the worker only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from webui.extensions.api import DenoiserHook


class StyleAlign(DenoiserHook):
    """Rows of all pictures of the batch that have the same prompt or negative prompt share their keys and values."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        with ExitStack() as patches:
            for module in network.modules():
                if isinstance(module, BasicTransformerBlock):
                    before = module.attn1.processor
                    module.attn1.processor = Sharing(self, before)
                    patches.callback(setattr, module.attn1, "processor", before)
            yield

    def wrap_call(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def sharing(x: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            groups: dict[tuple[int, int], list[int]] = {}
            for number, row in enumerate(cond.rows):
                groups.setdefault((row.sign, row.part), []).append(number)
            self.groups = list(groups.values())
            return call(x, timesteps, cond)

        return sharing


class Sharing:
    """An attention processor around another one: each row looks at all rows of its group."""

    def __init__(self, align: StyleAlign, inner: Any) -> None:
        self.align, self.inner = align, inner

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """hidden_states: (N, T, D), the normalised input of self-attention."""
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        shared = torch.empty_like(hidden_states)
        for rows in self.align.groups:
            together = seen[rows].reshape(1, -1, seen.shape[-1]).expand(len(rows), -1, -1)
            shared[rows] = self.inner(attn, hidden_states[rows], together, *args, **kwargs)
        return shared
