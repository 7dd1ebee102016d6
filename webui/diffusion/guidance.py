"""Guidance: how predictions for the prompts and the negative prompt become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from webui.core.errors import InvalidRequest
from webui.core.hooks import Row
from webui.diffusion.denoiser import Cond

if TYPE_CHECKING:
    from webui.core.hooks import Denoise, Predict, Step


@dataclass(frozen=True)
class TimedCond:
    """What a prompt became, in force up to and including denoiser call `end_step`.

    vectors: (T, D) text vectors. pooled: (P,) for networks that take one vector beside them.
    """

    end_step: int
    vectors: Tensor
    pooled: Tensor | None = None


Schedule = tuple[TimedCond, ...]


def at_call(schedule: Schedule, call: int) -> TimedCond:
    """The entry in force at a denoiser call; beyond the last end, where A1111 begins anew, the first one."""
    return next((entry for entry in schedule if call <= entry.end_step), schedule[0])


@dataclass(frozen=True)
class WeightedSchedule:
    """One of the prompts joined by AND, with its weight."""

    weight: float
    schedule: Schedule


@dataclass(frozen=True)
class PromptConds:
    """The conditioning of a batch: for each image its AND parts, and its negative prompt."""

    positive: tuple[tuple[WeightedSchedule, ...], ...]
    negative: tuple[Schedule, ...]


@dataclass(frozen=True)
class GuidanceOptions:
    """How classifier-free guidance is run.

    total_calls: expected denoiser calls, for `skip_early`.
    min_sigma: below this noise level every other call leaves out the negative prompt (all when
    `min_sigma_all`). skip_early: share of the calls at the start that leave it out.
    batch_together: positive and negative rows in one network call.
    pad: make both of one length; "empty" by vectors of an empty prompt, "repeat" by the last vector.
    empty: (T, D) vectors of the empty prompt, for "empty".
    image_scale: how strongly an instruct-pix2pix model keeps to its picture; None and 1 compare prompts alone.
    """

    cfg_scale: float
    total_calls: int
    min_sigma: float = 0.0
    min_sigma_all: bool = False
    skip_early: float = 0.0
    batch_together: bool = True
    pad: Literal["empty", "repeat"] | None = None
    empty: Tensor | None = None
    image_scale: float | None = None

    @property
    def compares_pictures(self) -> bool:
        """Whether a third prediction, without the picture, takes part."""
        return self.image_scale is not None and self.image_scale != 1


class ClassifierFreeGuidance:
    """x0 = U + cfg_scale * sum over AND parts of weight * (C - U).

    With an image scale, where I is U with the picture: x0 = U + cfg_scale * (C - I) + image_scale * (I - U).
    Holds the count of denoiser calls, which decides the prompt in force; one object a sampling.
    `last_unconditioned` is x0 of the negative prompts in the latest call.
    channels: (B, C', h, w) what the network reads beside x, see `Cond`.
    `padded`, `skipped_early`, `skipped_low` say afterwards which options had an effect.
    Source: Ho and Salimans 2022, arXiv:2207.12598; Liu et al. 2022, arXiv:2206.01714, for AND;
    Brooks et al. 2022, arXiv:2211.09800, for pictures.
    """

    def __init__(
        self, conds: PromptConds, options: GuidanceOptions, channels: Tensor | None = None, call: int = 0
    ) -> None:
        """call: how many there have been in this pass, by a model that is relieved."""
        self.conds = conds
        self.options = options
        self.channels = channels
        self.call = call
        self.padded = self.skipped_early = self.skipped_low = False
        self.last_unconditioned: Tensor | None = None
        self._stacked: tuple[list[TimedCond], Cond, Cond] | None = None
        self._rows = (
            tuple(Row(index, 1, part) for index, image in enumerate(conds.positive) for part in range(len(image))),
            tuple(Row(index, -1) for index in range(len(conds.negative))),
        )

    def denoiser(self, predict: Predict) -> Denoise:
        """The guided denoiser over a network's x0."""

        def denoise(x: Tensor, sigma: float, step: Step) -> Tensor:
            x0 = self._guided(predict, x, sigma, step)
            self.call += 1
            return x0

        return denoise

    def _guided(self, predict: Predict, x: Tensor, sigma: float, step: Step) -> Tensor:
        positive, negative = self._conds()
        if self.options.compares_pictures:
            return self._guided_by_picture(predict, x, sigma, step, positive, negative)
        parts = [len(image) for image in self.conds.positive]
        rows = torch.repeat_interleave(x, torch.tensor(parts, device=x.device), dim=0) if max(parts) > 1 else x
        scale = self.options.cfg_scale
        if self._leaves_out_negative(sigma):
            conditioned = predict(rows, sigma, positive, step)
            starts = torch.tensor([sum(parts[:index]) for index in range(len(parts))], device=x.device)
            unconditioned, scale = conditioned[starts], 1.0
        elif positive.context.shape[1] == negative.context.shape[1] and self.options.batch_together:
            both = predict(torch.cat([rows, x]), sigma, Cond.cat(positive, negative), step)
            conditioned, unconditioned = both[: len(rows)], both[len(rows) :]
        else:
            conditioned = predict(rows, sigma, positive, step)
            unconditioned = predict(x, sigma, negative, step)
        self.last_unconditioned = unconditioned
        return self._combined(conditioned, unconditioned, parts, scale)

    def _guided_by_picture(
        self, predict: Predict, x: Tensor, sigma: float, step: Step, positive: Cond, negative: Cond
    ) -> Tensor:
        if len(positive.context) != len(x):
            raise InvalidRequest(
                "AND can't be used with an instruct-pix2pix checkpoint; take it out of the prompt, or set Image CFG "
                "Scale to 1."
            )
        assert negative.channels is not None, "an instruct-pix2pix model reads a picture"
        unseeing = tuple(replace(row, part=1) for row in negative.rows)
        blind = replace(negative, channels=torch.zeros_like(negative.channels), rows=unseeing)
        if positive.context.shape[1] == negative.context.shape[1] and self.options.batch_together:
            rows = predict(torch.cat([x, x, x]), sigma, Cond.cat(positive, negative, blind), step)
            conditioned, pictured, unconditioned = rows.chunk(3)
        else:
            conditioned, pictured, unconditioned = (
                predict(x, sigma, cond, step) for cond in (positive, negative, blind)
            )
        self.last_unconditioned = unconditioned
        options = self.options
        assert options.image_scale is not None
        by_prompt = (conditioned - pictured) * options.cfg_scale
        return unconditioned + by_prompt + (pictured - unconditioned) * options.image_scale

    def _combined(self, conditioned: Tensor, unconditioned: Tensor, parts: Sequence[int], scale: float) -> Tensor:
        if max(parts) == 1:
            weights = [image[0].weight for image in self.conds.positive]
            if set(weights) == {1.0}:  # nothing is copied to a card, which the processor would have to wait for
                return unconditioned + (conditioned - unconditioned) * scale
            factor = torch.tensor(weights, device=conditioned.device).view(-1, 1, 1, 1) * scale
            return unconditioned + (conditioned - unconditioned) * factor
        combined, row = [], 0
        for image, base in zip(self.conds.positive, unconditioned, strict=True):
            x0 = base
            for part in image:
                x0 = x0 + (conditioned[row] - base) * (part.weight * scale)
                row += 1
            combined.append(x0)
        return torch.stack(combined)

    def _leaves_out_negative(self, sigma: float) -> bool:
        options = self.options
        if options.skip_early and self.call / options.total_calls <= options.skip_early:
            self.skipped_early = True
            return True
        if options.min_sigma and sigma < options.min_sigma and (self.call % 2 or options.min_sigma_all):
            self.skipped_low = True
            return True
        return False

    def _conds(self) -> tuple[Cond, Cond]:
        """What the prompts (a row an AND part) and the negative prompts (a row an image) are at this call."""
        positive = [at_call(part.schedule, self.call) for image in self.conds.positive for part in image]
        negative = [at_call(schedule, self.call) for schedule in self.conds.negative]
        chosen = positive + negative
        if self._stacked is not None and all(a is b for a, b in zip(chosen, self._stacked[0], strict=True)):
            return self._stacked[1], self._stacked[2]
        contexts = self._padded(*(stack_repeating([entry.vectors for entry in part]) for part in (positive, negative)))
        channels = self.channels
        repeated = channels
        if channels is not None:
            parts = torch.tensor([len(image) for image in self.conds.positive], device=channels.device)
            repeated = torch.repeat_interleave(channels, parts, dim=0)
        self._stacked = (
            chosen,
            Cond(contexts[0], stacked_pooled(positive), repeated, self._rows[0]),
            Cond(contexts[1], stacked_pooled(negative), channels, self._rows[1]),
        )
        return self._stacked[1], self._stacked[2]

    def _padded(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        length, other = positive.shape[1], negative.shape[1]
        if length == other or self.options.pad is None:
            return positive, negative
        self.padded = True
        if self.options.pad == "repeat":
            if other > length:
                return positive, negative[:, :length]
            return positive, lengthened(negative, length)
        assert self.options.empty is not None, "padding with the empty prompt needs its vectors"
        if length < other:
            return appended(positive, self.options.empty, other), negative
        return positive, appended(negative, self.options.empty, length)


def lengthened(vectors: Tensor, length: int) -> Tensor:
    """(N, T, D) brought to `length` tokens by repeating the last vector."""
    return torch.cat([vectors, vectors[:, -1:].expand(-1, length - vectors.shape[1], -1)], dim=1)


def appended(vectors: Tensor, empty: Tensor, length: int) -> Tensor:
    """(N, T, D) brought to `length` tokens by copies of the empty prompt's vectors (T0, D)."""
    copies = (length - vectors.shape[1]) // empty.shape[0]
    return torch.cat([vectors, empty.repeat(copies, 1).expand(vectors.shape[0], -1, -1)], dim=1)


def stacked_pooled(entries: Sequence[TimedCond]) -> Tensor | None:
    """(N, P) of N entries, None when they have none."""
    pooled = [entry.pooled for entry in entries if entry.pooled is not None]
    return torch.stack(pooled) if pooled else None


def stack_repeating(vectors: Sequence[Tensor]) -> Tensor:
    """(N, T, D) from N of (Ti, D), shorter ones lengthened by their last vector."""
    length = max(item.shape[0] for item in vectors)
    return torch.stack([item if item.shape[0] == length else lengthened(item[None], length)[0] for item in vectors])
