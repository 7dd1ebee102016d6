"""Attention: `(more)`, `[less]`, `(exactly:1.3)`, `\\(literal\\)` and BREAK.

`(x)` multiplies the weight of x by 1.1, `[x]` by 1/1.1, `(x:w)` by w; nesting multiplies. An opening
bracket that nothing closes reaches to the end of the text, a closing one that nothing opened is text. A
backslash that escapes nothing is dropped.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from webui.core.errors import InvalidRequest

ROUND_FACTOR = 1.1
SQUARE_FACTOR = 1 / 1.1
BREAK = "BREAK"
MAX_MULTIPLICATIONS = 1_000_000

_PIECES = re.compile(
    r"""
    \\ (?P<escaped> [()\[\]\\]? )
    | : \s* (?P<weight> [+\-.\d]+ ) \s* \)
    | (?P<bracket> [()\[\]] )
    | [^\\()\[\]:]+ | :
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")


class Weighted(NamedTuple):
    """A piece of text and its weight; `Weighted("BREAK", -1)` asks for a new chunk."""

    text: str
    weight: float

    @property
    def is_break(self) -> bool:
        return self.text == BREAK and self.weight == -1


def parse_attention(text: str) -> list[Weighted]:
    """Split `text` into pieces of equal weight; never empty: `[Weighted("", 1.0)]` for no text.

    A weight inside brackets applies to a BREAK too, so that only a BREAK of weight -1 breaks: those
    within brackets are words. A number that isn't one, as in `(a:1.2.3)`, is text.
    Raises: InvalidRequest if a weight isn't finite or brackets nest so deeply that weighting them takes seconds.
    """
    pieces = _Pieces()
    open_round: list[int] = []
    open_square: list[int] = []
    for match in _PIECES.finditer(text):
        found = match.group()
        if found[0] == "\\":
            pieces.add(match["escaped"])
        elif match["weight"]:
            weight = _number(match["weight"])
            if not open_round:
                pieces.add_text(found)
            elif weight is None:
                pieces.add_text(found[:-1])
                pieces.multiply(open_round.pop(), ROUND_FACTOR)
            else:
                pieces.multiply(open_round.pop(), weight)
        elif found == "(":
            open_round.append(len(pieces.texts))
        elif found == "[":
            open_square.append(len(pieces.texts))
        elif found == ")" and open_round:
            pieces.multiply(open_round.pop(), ROUND_FACTOR)
        elif found == "]" and open_square:
            pieces.multiply(open_square.pop(), SQUARE_FACTOR)
        else:
            pieces.add_text(found)
    for start in open_round:
        pieces.multiply(start, ROUND_FACTOR)
    for start in open_square:
        pieces.multiply(start, SQUARE_FACTOR)
    return pieces.merged()


def uses_emphasis(text: str) -> bool:
    """Whether anything in `text` weighs other than 1."""
    return any(piece.weight != 1 and piece.text != BREAK for piece in parse_attention(text))


class _Pieces:
    """Texts and their weights so far. Weights are multiplied from the inner bracket to the outer, which rounds
    as the original program does."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.weights: list[float] = []
        self.multiplications = 0

    def add(self, text: str, weight: float = 1.0) -> None:
        self.texts.append(text)
        self.weights.append(weight)

    def add_text(self, text: str) -> None:
        """Add text in which the word BREAK, with the white space around it, breaks."""
        if BREAK not in text:
            self.add(text)
            return
        parts = _BREAK.split(text)
        last = len(parts) - 1
        for i, part in enumerate(parts):
            if i > 0:
                self.add(BREAK, -1.0)
                part = part.lstrip()
            self.add(part.rstrip() if i < last else part)

    def multiply(self, start: int, factor: float) -> None:
        """Multiply the weights from piece `start` on."""
        self.multiplications += len(self.weights) - start
        if self.multiplications > MAX_MULTIPLICATIONS:
            raise InvalidRequest("The prompt nests too many brackets around too much text; take some away.")
        self.weights[start:] = [weight * factor for weight in self.weights[start:]]

    def merged(self) -> list[Weighted]:
        """Neighbours of equal weight as one piece."""
        merged: list[Weighted] = []
        texts: list[str] = []
        for i, (text, weight) in enumerate(zip(self.texts, self.weights, strict=True)):
            texts.append(text)
            if i + 1 == len(self.weights) or self.weights[i + 1] != weight:
                if not math.isfinite(weight):
                    raise InvalidRequest(f'The weight of "{"".join(texts)[:40]}" is {weight}; use fewer brackets.')
                merged.append(Weighted("".join(texts), weight))
                texts.clear()
        return merged or [Weighted("", 1.0)]


def _number(digits: str) -> float | None:
    try:
        return float(digits)
    except ValueError:
        return None
