"""Which frames the network sees together, call by call, when a clip is longer than a context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NO_LOOP, REDUCED, REDUCED_WITH_PROMPTS, CLOSED = LOOPS = ("N", "R-P", "R+P", "A")
"""How the end of a clip meets its beginning."""


@dataclass(frozen=True)
class Context:
    """length: frames of the clip. size: of a context. stride: 2 adds contexts of every 2nd frame, 3 of every 4th."""

    length: int
    size: int
    stride: int = 1
    overlap: int = 0
    loop: str = REDUCED

    @property
    def is_whole(self) -> bool:
        """Whether one context holds the clip."""
        return self.length <= self.size


def uniform(call: int, context: Context) -> list[list[int]]:
    """The contexts of a denoiser call, each a list of frames; they begin elsewhere at every call.

    Source: the context scheduler of AnimateDiff's command line and web extensions.
    """
    length, size, overlap = context.length, context.size, context.overlap
    if context.is_whole:
        return [list(range(length))]
    found = []
    shift = halved_digits(call)
    levels = min(context.stride, math.ceil(math.log2(length / size)) + 1)
    for step in (1 << level for level in range(levels)):
        pad = round(length * shift)
        first = int(shift * step) + pad
        end = length + pad - (0 if context.loop == CLOSED else overlap)
        for start in range(first, end, size * step - overlap):
            frames = [number % length for number in range(start, start + size * step, step)]
            crosses = any(b < a for a, b in zip(frames, frames[1:], strict=False))
            found += _unwrapped(frames, length) if crosses and step == 1 and context.loop == NO_LOOP else [frames]
    return found


def _unwrapped(frames: Sequence[int], length: int) -> list[list[int]]:
    """In place of a context that crosses the end: one that ends there, and one that begins at the beginning."""
    size = len(frames)
    return [list(range(length - size, length)), list(range(size))]


def halved_digits(number: int) -> float:
    """The binary digits of a number behind the point, the last one first: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    return int(f"{number:064b}"[::-1], 2) / 2**64


def sliding(context: Context, stride: int) -> list[list[int]]:
    """Contexts from the beginning on, one every `stride` frames, the last one at the end."""
    if context.is_whole:
        return [list(range(context.length))]
    last = context.length - context.size
    starts = [*range(0, last, stride), last]
    return [list(range(start, start + context.size)) for start in starts]


def pyramid(size: int) -> list[int]:
    """How much each frame of a context counts: 1, 2, ... in the middle most, ... 2, 1."""
    return [min(place + 1, size - place) for place in range(size)]
