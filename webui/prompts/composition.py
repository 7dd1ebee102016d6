"""AND: a positive prompt of several prompts, `a cat AND a dog :0.5`, whose guidance is summed."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from webui.core.errors import InvalidRequest

MAX_PARTS = 100
"""Each is a row of the network's batch."""

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*[-+]?(?:\d+\.?|\d*\.\d+)")


class Part(NamedTuple):
    """weight: factor of this part's guidance, may be negative."""

    text: str
    weight: float


def split_composition(prompt: str) -> tuple[Part, ...]:
    """The parts between ANDs with the weight after their last colon, 1.0 where there is none.

    Space before a part stays, space after it goes. A weight counts without AND too: "x:0.5".
    Raises: InvalidRequest for more than 100 parts, or a weight beyond all bounds.
    """
    parts = _AND.split(prompt)
    if len(parts) > MAX_PARTS:
        raise InvalidRequest(f"The prompt joins {len(parts)} prompts by AND; at most {MAX_PARTS} can be joined.")
    return tuple(_weigh(part.rstrip()) for part in parts)


def _weigh(part: str) -> Part:
    text, colon, number = part.rpartition(":")
    if colon and _WEIGHT.fullmatch(number):
        weight = float(number)
        if not math.isfinite(weight):
            raise InvalidRequest(f'The weight of "{text.strip()[:40]}" has too many digits ({len(number)}).')
        return Part(text.rstrip(), weight)
    return Part(part, 1.0)
