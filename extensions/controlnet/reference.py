"""reference_only and its relatives: the network looks at a noisy copy of the unit's picture, and what it saw there
joins what it sees in its own. They need no control model. Imported in the worker only.

Zhang 2023, "Major update: Reference-only control", discussion 1236 of sd-webui-controlnet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from .ranges import Ranged
from .units import CONTROL_FIRST, PROMPT_FIRST, Unit

ATTENDING = ("reference_only", "reference_adain+attn")
MATCHING = ("reference_adain", "reference_adain+attn")
LEAST_VARIANCE = 1e-6
LEAST_FIDELITY = 1e-5
XL_EXPONENT = 3.0
"""Of the style fidelity: SDXL is disturbed by less."""


@dataclass(frozen=True)
class Reference:
    """A unit ready for a pass. latent: (1, C, h, w) of its picture, in the model's scale."""

    unit: Unit
    latent: Tensor
    is_second_pass: bool

    def at(self, share: float) -> Reference:
        """As the unit's weight is when that share of the steps is behind."""
        return replace(self, unit=self.unit.at(share, is_second_pass=self.is_second_pass))

    def fidelity(self, is_xl: bool) -> float:
        """How far negative prompts are spared, 0 to 1: the picture is then followed in style, too."""
        if self.unit.control_mode == CONTROL_FIRST:
            return 1.0
        if self.unit.control_mode == PROMPT_FIRST or self.is_second_pass:
            return 0.0
        return self.unit.a**XL_EXPONENT if is_xl else self.unit.a


@dataclass
class Looking:
    """What the places in the network do in the call that is under way.

    attending, matching: the weight with which they take down what they see, None when they use what they have.
    fidelity: of what is taken down. negative: the rows of negative prompts.
    """

    attending: float | None = None
    matching: float | None = None
    fidelity: float = 0.0
    negative: list[int] = field(default_factory=list)


@dataclass
class Place:
    """A layer that takes down what it sees for weights above `rank`, and uses it in its next call."""

    looking: Looking
    rank: float
    seen: list[Any] = field(default_factory=list)
    fidelities: list[float] = field(default_factory=list)

    def take_down(self, weight: float, seen: Any) -> None:
        if weight > self.rank:
            self.seen.append(seen)
            self.fidelities.append(self.looking.fidelity)

    def taken(self) -> tuple[list[Any], float]:
        """All that was taken down, which is gone then, and the mean fidelity."""
        seen, fidelity = self.seen, sum(self.fidelities) / max(len(self.fidelities), 1)
        self.seen, self.fidelities = [], []
        return seen, fidelity

    def spared(self, changed: Tensor, fidelity: float, plain: Callable[[list[int]], Tensor]) -> Tensor:
        """`changed` with the rows of negative prompts as far as `plain` gives them as the fidelity says."""
        if not self.looking.negative or fidelity <= LEAST_FIDELITY:
            return changed
        kept = changed.clone()
        kept[self.looking.negative] = plain(self.looking.negative).to(kept.dtype)
        return fidelity * kept + (1 - fidelity) * changed


class Attending(Place):
    """An attention processor around another one: what was taken down is looked at, too."""

    def __init__(self, looking: Looking, rank: float, inner: Any) -> None:
        super().__init__(looking, rank)
        self.inner = inner

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """hidden_states: (N, T, D), the normalised input of self-attention."""

        def attend(own: Tensor, context: Tensor | None) -> Tensor:
            mixed: Tensor = self.inner(attn, own, context, *args, **kwargs)
            return mixed

        if self.looking.attending is not None:
            self.take_down(self.looking.attending, hidden_states)
            return attend(hidden_states, encoder_hidden_states)
        seen, fidelity = self.taken()
        if not seen:
            return attend(hidden_states, encoder_hidden_states)
        both = attend(hidden_states, torch.cat([hidden_states, *seen], dim=1))
        return self.spared(both, fidelity, lambda rows: attend(hidden_states, None)[rows])


class Matching(Place):
    """A hook on a block's output: each channel gets the mean and the variance that were taken down (AdaIN).

    Huang and Belongie 2017, arXiv:1703.06868.
    """

    def __call__(self, block: nn.Module, args: Any, output: Any) -> Any:
        inside = output[0] if isinstance(output, tuple) else output
        changed = self.changed(inside)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    def changed(self, x: Tensor) -> Tensor:
        """x: (N, C, h, w)."""
        if self.looking.matching is not None:
            self.take_down(self.looking.matching, torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0))
            return x
        seen, fidelity = self.taken()
        if not seen:
            return x
        variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
        wanted, middle = (sum(parts) / len(seen) for parts in zip(*seen, strict=True))
        matched = (x - mean) / _deviation(variance) * _deviation(wanted) + middle
        return self.spared(matched, fidelity, lambda rows: x[rows]).to(x.dtype)


def _deviation(variance: Tensor) -> Tensor:
    return variance.clamp(min=LEAST_VARIANCE).sqrt()


class Referring(Ranged):
    """All reference units of a pass. Before each call of the network it looks at the units' pictures.

    noise: for a picture at its noise level; the pictures' batch is that of the call.
    """

    order = -1  # within the other units, whose residuals belong to the picture that is made

    def __init__(self, references: Sequence[Reference], alphas_cumprod: Tensor, noise: torch.Generator) -> None:
        super().__init__()
        self.references = references
        self.alphas_cumprod = alphas_cumprod
        self.noise = noise
        self.looking = Looking()

    @contextmanager
    def attached(self, network: Any) -> Iterator[None]:
        with ExitStack() as patches:
            if any(reference.unit.preprocessor.id in ATTENDING for reference in self.references):
                for rank, block in attention_ranks(network):
                    before = block.attn1.processor
                    block.attn1.processor = Attending(self.looking, rank, before)
                    patches.callback(setattr, block.attn1, "processor", before)
            if any(reference.unit.preprocessor.id in MATCHING for reference in self.references):
                for rank, block in block_ranks(network):
                    patches.enter_context(block.register_forward_hook(Matching(self.looking, rank)))
            yield

    def wrap_call(self, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def referring(x: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            self.looking.negative = [number for number, row in enumerate(cond.rows) if row.sign < 0]
            for reference in (reference.at(self.share) for reference in self.references):
                if reference.unit.is_active(self.share):
                    self._look_at(reference, call, x, timesteps, cond)
            return call(x, timesteps, cond)

        return referring

    def _look_at(
        self, reference: Reference, call: Callable[..., Tensor], x: Tensor, timesteps: Tensor, cond: Any
    ) -> None:
        unit, looking = reference.unit, self.looking
        latent = reference.latent.to(x).expand(len(x), -1, -1, -1)
        drawn = torch.randn(latent.shape, generator=self.noise, device=self.noise.device).to(x)
        share = float(self.alphas_cumprod[round(float(timesteps[0]))])
        noisy = share**0.5 * latent + (1 - share) ** 0.5 * drawn
        channels = cond.channels
        if channels is not None:  # an inpainting model sees all of the picture; its mask is empty
            channels = torch.cat([torch.zeros_like(channels[:, : channels.shape[1] - latent.shape[1]]), latent], dim=1)
        looking.fidelity = reference.fidelity(is_xl=cond.pooled is not None)
        looking.attending = unit.weight if unit.preprocessor.id in ATTENDING else None
        looking.matching = unit.weight if unit.preprocessor.id in MATCHING else None
        try:
            call(noisy, timesteps, replace(cond, residuals=None, channels=channels))
        finally:
            looking.attending = looking.matching = None


def attention_ranks(unet: Any) -> list[tuple[float, BasicTransformerBlock]]:
    """Every transformer block with its rank from 0 to below 1: the widest first, and those of a width as data flows."""
    parts = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    blocks = [
        module
        for part in parts
        if part is not None
        for module in part.modules()
        if isinstance(module, BasicTransformerBlock)
    ]
    blocks.sort(key=lambda block: -block.norm1.normalized_shape[0])
    return [(number / len(blocks), block) for number, block in enumerate(blocks)]


def block_ranks(unet: Any) -> list[tuple[float, nn.Module]]:
    """The modules that end the blocks of the deeper levels, with ranks from 0 to 2: the deepest first.

    Of SD 1.x's twelve blocks on the way up the first eight, of SDXL's nine the first six.
    """
    down = [_last(block, place) for block in unet.down_blocks[1:] for place in range(len(block.resnets))]
    up = [_last(block, place) for block in unet.up_blocks for place in range(len(block.resnets))]
    up = up[: 2 * len(unet.up_blocks)]
    ranks = [(2 * (1 - number / len(down)), block) for number, block in enumerate(down)]
    ranks += [(2 * number / len(up), block) for number, block in enumerate(up)]
    return [(0.0, unet.mid_block), *ranks] if unet.mid_block is not None else ranks


def _last(level: Any, place: int) -> nn.Module:
    """The module whose output is that of a level's block: its transformer, or what doubles the picture after it.

    A doubled picture is seen before it is fitted to the skip connection's size.
    """
    ups: Any = getattr(level, "upsamplers", None)
    if ups is not None and place == len(level.resnets) - 1:
        return ups[0].conv
    attentions = getattr(level, "attentions", None)
    return attentions[place] if attentions else level.resnets[place]
