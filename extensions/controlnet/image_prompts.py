"""Units whose picture is a prompt: the hook that lets an IP-Adapter speak in a U-Net's cross-attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .loading import Base, Network, lent
from .networks.ip_adapter import IPAdapter
from .ranges import Ranged
from .unets import cross_attending, size_of_tokens, transformers
from .units import Unit
from .weight_types import weights_of


@dataclass(frozen=True)
class ImagePrompt:
    """A unit ready for a pass. picture: (2, D) or (2, T, D), what the encoder made of nothing and of its picture.

    region: (1, 1, H, W) in 0..1, where it acts; None for everywhere. models, base: who lends the adapter, and for whom.
    """

    unit: Unit
    picture: Tensor
    region: Tensor | None
    models: Any
    base: Base
    is_second_pass: bool = False

    def factor(self, share: float) -> float:
        """What its scales are multiplied by when that share of the steps is behind; 0 while the unit is silent."""
        unit = self.unit.at(share, is_second_pass=self.is_second_pass)
        if not unit.is_active(share):
            return 0.0
        return 1.0 if unit is self.unit else unit.weight


class Prompting(Ranged):
    """All units with an IP-Adapter in a pass."""

    def __init__(self, prompts: Sequence[ImagePrompt]) -> None:
        super().__init__()
        self.prompts = prompts
        self._call: tuple[list[int], tuple[int, int]] = [], (0, 0)

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        with ExitStack() as hooks:
            for prompt in self.prompts:
                for block, speaking in self._speakers(prompt, network):
                    hooks.enter_context(block.attn2.to_q.register_forward_hook(speaking.listen))
                    hooks.enter_context(block.attn2.to_out[0].register_forward_pre_hook(speaking.speak))
            yield

    def _speakers(self, prompt: ImagePrompt, unet: Any) -> Iterator[tuple[Any, _Speaking]]:
        """What the unit says in each cross-attention. The adapter isn't needed afterwards."""
        points = transformers(unet)
        unit = prompt.unit if prompt.unit.curves is None else prompt.unit.model_copy(update={"weight": 1.0})
        scales = weights_of(unit, [side for side, _ in points])
        scale_of = {
            block: scale
            for scale, (_, transformer) in zip(scales, points, strict=True)
            for block in transformer.transformer_blocks
        }
        with lent(prompt.unit, prompt.models, prompt.base, _adapter) as adapter, torch.inference_mode():
            tokens = adapter.tokens(prompt.picture)
            blocks = zip(cross_attending(unet), adapter.keys, adapter.values, strict=True)
            for block, to_keys, to_values in blocks:
                keys, values = (to(tokens).to(prompt.base.device) for to in (to_keys, to_values))
                yield block, _Speaking(self, prompt, scale_of[block], keys, values, block.attn2.heads)

    def wrap_call(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def prompted(x: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            self._call = [int(row.sign > 0) for row in cond.rows], (x.shape[-2], x.shape[-1])
            return call(x, timesteps, cond)

        return prompted

    @property
    def rows(self) -> list[int]:
        """For each row of the call 1 if it is of a prompt, else 0."""
        return self._call[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the call's latent."""
        return self._call[1]


class _Speaking:
    """The two hooks in one cross-attention. keys, values: (2, tokens, D), for negative prompts and for prompts."""

    def __init__(
        self, prompting: Prompting, prompt: ImagePrompt, scale: float, keys: Tensor, values: Tensor, heads: int
    ) -> None:
        self.prompting = prompting
        self.prompt = prompt
        self.scale = scale
        self.keys, self.values = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (keys, values))
        self.heads = heads
        self._query: Tensor | None = None

    def listen(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self._query = output

    def speak(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        query, self._query = self._query, None
        scale, rows = self.scale * self.prompt.factor(self.prompting.share), self.prompting.rows
        if query is None or scale == 0:
            return None
        q = query.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (part.to(q)[rows] for part in (self.keys, self.values))
        said = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        if self.prompt.region is not None:
            said = said * _region_of_tokens(self.prompt.region, self.prompting.size, said.shape[1]).to(said)
        return args[0] + scale * said.to(args[0].dtype), *args[1:]


def _region_of_tokens(region: Tensor, size: tuple[int, int], tokens: int) -> Tensor:
    """(1, tokens, 1): the region where each token lies."""
    return F.interpolate(region, size=size_of_tokens(size, tokens), mode="bilinear").flatten(2).transpose(1, 2)


def _adapter(network: Network, device: torch.device) -> IPAdapter:
    assert isinstance(network, IPAdapter), f"{network=} reads no pictures"
    return network
