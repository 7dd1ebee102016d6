"""Prompts that move from one key frame to the next: every frame's vectors lie on the way between those of two keys."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from webui.extensions.api import InvalidRequest

from .travel import Between

NEARLY_PARALLEL = 0.9995


def slerp(low: Tensor, high: Tensor, share: float) -> Tensor:
    """Spherical interpolation of whole tensors, along a straight line where they are nearly parallel.

    Source: Shoemake 1985.
    """
    cosine = float((low / low.norm() * (high / high.norm())).sum())
    if not abs(cosine) <= NEARLY_PARALLEL:
        return low + (high - low) * share
    angle = math.acos(cosine)
    return low * (math.sin((1 - share) * angle) / math.sin(angle)) + high * (math.sin(share * angle) / math.sin(angle))


def moved(conds: Any, way: tuple[Between, ...], *, negative: bool = False) -> Any:
    """The conditioning of a clip, PromptConds, with that of frames between two keys on the way between theirs.

    Raises: InvalidRequest where the keys' prompts aren't alike in their parts.
    """
    if negative:
        schedules = [_between(conds.negative[at.before], conds.negative[at.after], at.share) for at in way]
        return replace(conds, negative=tuple(schedules))
    frames = []
    for at in way:
        before, after = conds.positive[at.before], conds.positive[at.after]
        if len(before) != len(after):
            raise InvalidRequest(
                f"The prompts of frames {at.before} and {at.after} have {len(before)} and {len(after)} parts joined by "
                "AND; give all frames as many."
            )
        frames.append(
            tuple(
                replace(
                    a,
                    weight=a.weight + (b.weight - a.weight) * at.share,
                    schedule=_between(a.schedule, b.schedule, at.share),
                )
                for a, b in zip(before, after, strict=True)
            )
        )
    return replace(conds, positive=tuple(frames))


def _between(before: Any, after: Any, share: float) -> Any:
    """A schedule between two: what is in force changes whenever one of the two changes."""
    if share == 0:
        return before
    ends = sorted({entry.end_step for entry in (*before, *after)})
    return tuple(_entry(_at(before, end), _at(after, end), end, share) for end in ends)


def _at(schedule: Any, call: int) -> Any:
    return next((entry for entry in schedule if call <= entry.end_step), schedule[-1])


def _entry(before: Any, after: Any, end: int, share: float) -> Any:
    low, high = _alike(before.vectors, after.vectors)
    pooled = None if before.pooled is None else slerp(before.pooled, after.pooled, share)
    return replace(before, end_step=end, vectors=slerp(low, high, share), pooled=pooled)


def _alike(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Both of one length, the shorter with its last vector repeated, as guidance does it."""
    length = max(len(low), len(high))
    longer = [torch.cat([part, part[-1:].expand(length - len(part), -1)]) for part in (low, high)]
    return longer[0], longer[1]
