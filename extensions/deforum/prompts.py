"""Prompts by frame: keys, formulas inside, what stands before and after each, and weights between two of them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from operator import itemgetter

from webui.extensions.api import InvalidRequest

from .expressions import BadExpression, evaluate
from .schedules import key_frame

NEGATIVE = "--neg"


def join(prompt: str, before: str, after: str) -> str:
    """`before prompt --neg after`, with no second --neg where the prompt has its own."""
    return f"{before} {prompt} {'' if NEGATIVE in prompt else NEGATIVE} {after}"


def unjoin(text: str, before: str, after: str) -> str:
    """The prompt that `join` made `text` of; `text` itself where it didn't."""
    if text.startswith(f"{before} "):
        inner = text[len(before) + 1 :]
        for ending in (f" {NEGATIVE} {after}", f"  {after}"):
            if inner.endswith(ending) and join(inner[: len(inner) - len(ending)], before, after) == text:
                return inner[: len(inner) - len(ending)]
    return text


def divide(text: str) -> tuple[str, str]:
    """The positive and the negative prompt."""
    positive, _, negative = text.partition(NEGATIVE)
    return positive.strip(), negative.replace(NEGATIVE, " ").strip()


def prompts_by_frame(
    prompts: Mapping[str, str], before: str, after: str, frames: int, seed: int, interpolated: bool = False
) -> list[tuple[str, str]]:
    """(positive, negative) for each frame.

    interpolated: between two keys both prompts stand, weighted, joined by AND. Raises: InvalidRequest.
    """
    keyed = sorted((key_frame("prompts", key.strip(), frames, seed), text) for key, text in prompts.items())
    keyed = [(frame, text) for frame, text in keyed if frame < frames]
    if not keyed:
        raise InvalidRequest(f"The prompts have no key from 0 to {frames - 1}.")
    texts = []
    for frame in range(frames):
        current = max(0, bisect_right(keyed, frame, key=itemgetter(0)) - 1)
        start, text = keyed[current]
        text = join(text, before, after)
        if interpolated and current + 1 < len(keyed) and frame > start >= 0:
            end, following = keyed[current + 1]
            text = _mixed(text, join(following, before, after), (frame - start) / (end - start))
        texts.append(divide(_computed(text, frame, frames)))
    return texts


def _mixed(first: str, second: str, weight: float) -> str:
    sides = []
    for ones in zip(*(_sides(text) for text in (first, second)), strict=True):
        weighted = [f"({one}):{share}" for one, share in zip(ones, (1 - weight, weight), strict=True) if one.strip()]
        sides.append(" AND  ".join(weighted))
    return f"{sides[0]} {NEGATIVE}  {sides[1]}" if sides[1] else sides[0]


def _sides(text: str) -> tuple[str, str]:
    positive, _, negative = text.partition(NEGATIVE)
    return positive, negative


def _computed(text: str, frame: int, frames: int) -> str:
    """The text with each formula between backquotes replaced by its value at the frame."""
    if "`" not in text:
        return text

    def value(found: re.Match[str]) -> str:
        formula = found[1]
        try:
            number = float(evaluate(formula, {"t": frame, "max_f": frames - 1}))
        except BadExpression as error:
            raise InvalidRequest(f'prompts, frame {frame}: "{formula[:60]}" {error}.') from error
        if number != number or abs(number) == float("inf"):
            raise InvalidRequest(f'prompts, frame {frame}: "{formula[:60]}" is no finite number there.')
        whole = number.is_integer() and not re.search(r"[./]|[a-z]\(", formula)
        return str(int(number)) if whole else str(number)

    return re.sub(r"`([^`]*)`", value, text)
