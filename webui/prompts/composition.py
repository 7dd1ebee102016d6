"""AND: a positive prompt of several prompts, `a cat AND a dog :0.5`, whose guidance is summed."""

from __future__ import annotations

import re
from typing import NamedTuple

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*[-+]?(?:\d+\.?|\d*\.\d+)")


class Part(NamedTuple):
    """weight: factor of this part's guidance, may be negative."""

    text: str
    weight: float


def split_composition(prompt: str) -> tuple[Part, ...]:
    """The parts between ANDs with the weight after their last colon, 1.0 where there is none.

    Space before a part stays, space after it goes. A weight counts without AND too: "x:0.5".
    """
    return tuple(_weigh(part.rstrip()) for part in _AND.split(prompt))


def _weigh(part: str) -> Part:
    text, colon, number = part.rpartition(":")
    if colon and _WEIGHT.fullmatch(number):
        return Part(text.rstrip(), float(number))
    return Part(part, 1.0)
