"""The grammar of schedules, `0: (1), 30: (1 + 0.1*sin(t))`, and their values for every frame.

Keys are frames: whole numbers, or formulas of max_f and s. A value that is a plain number is a point that neighbours
are interpolated to; any other value is a formula of t, s and max_f that holds until the next key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from webui.extensions.api import InvalidRequest

from .expressions import BadExpression, evaluate

LONGEST = 500_000
MOST_FRAMES = 1_000_000
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_QUOTES = "\"'"


@dataclass(frozen=True)
class Entry:
    """One `key: (value)`. key and value: without quotes and outer parentheses. column: of the key, from 1."""

    key: str
    value: str
    column: int
    value_column: int


class ScheduleError(InvalidRequest):
    """A schedule that can't be read or computed; the message names it, the column, and the frame where there is one."""


def schedule_values(name: str, text: str, frames: int, seed: int) -> Any:
    """The schedule's number for each frame, (frames,) float64, every one finite.

    name: how messages call the schedule. seed: the value of s. Raises: ScheduleError.
    """
    import numpy as np

    keyed = _keyed(name, text, frames, seed)
    t = np.arange(frames, dtype=np.int64)
    known = np.full(frames, np.nan)
    for (key, entry), following in zip(keyed, [key for key, _ in keyed[1:]] + [frames], strict=True):
        is_number = _NUMBER.fullmatch(entry.value) is not None
        span = slice(key, key + 1 if is_number else following)
        try:
            known[span] = (
                float(entry.value)
                if is_number
                else evaluate(entry.value, {"t": t[span], "s": seed, "max_f": frames - 1})
            )
        except BadExpression as error:
            raise ScheduleError(f'{name}, column {entry.value_column}: "{_short(entry.value)}" {error}.') from error
        bad = np.flatnonzero(~np.isfinite(known[span]))
        if len(bad):
            raise ScheduleError(
                f'{name}, column {entry.value_column}: "{_short(entry.value)}" is no finite number at frame '
                f"{key + bad[0]}; it divides by zero or leaves the range of a function there."
            )
    points = np.flatnonzero(~np.isnan(known))
    return np.interp(t, points, known[points])


def schedule_texts(name: str, text: str, frames: int, seed: int) -> list[str]:
    """The schedule's text for each frame; each holds until the next key, the first one from the start on."""
    keyed = _keyed(name, text, frames, seed)
    texts: list[str] = []
    for (_, entry), following in zip(keyed, [key for key, _ in keyed[1:]] + [frames], strict=True):
        texts += [entry.value] * (following - len(texts))
    return texts


def key_frame(name: str, key: str, frames: int, seed: int, column: int | None = None) -> int:
    """The frame that a key means: a whole number, or a formula of max_f and s, cut off to a whole number."""
    where = name if column is None else f"{name}, column {column}"
    if re.fullmatch(r"[+-]?[0-9]{1,15}", key):
        return int(key)
    try:
        value = float(evaluate(key, {"max_f": frames - 1, "s": seed}))
    except BadExpression as error:
        raise ScheduleError(f'{where}: the key "{_short(key)}" {error}.') from error
    if not math.isfinite(value):
        raise ScheduleError(f'{where}: the key "{_short(key)}" is no finite number.')
    return int(value)


def _keyed(name: str, text: str, frames: int, seed: int) -> list[tuple[int, Entry]]:
    """The entries that lie within the animation by frame; of two with the same frame the later one counts."""
    if not 1 <= frames <= MOST_FRAMES:
        raise ScheduleError(f"{name}: an animation has 1 to {MOST_FRAMES} frames, not {frames}.")
    if len(text) > LONGEST:
        raise ScheduleError(f"{name} is {len(text)} characters long; {LONGEST} are the most.")
    found: dict[int, Entry] = {}
    for entry in parse(name, text):
        frame = key_frame(name, entry.key, frames, seed, entry.column)
        if 0 <= frame < frames:
            found[frame] = entry
    if not found:
        raise ScheduleError(f'{name} has no key from 0 to {frames - 1}: "{_short(text)}". Write for example 0: (1).')
    return sorted(found.items())


def parse(name: str, text: str) -> list[Entry]:
    """The entries as they stand in the text; commas and colons inside parentheses and quotes belong to the value."""
    entries = []
    for start, part in _split(name, text, ",", 0):
        if not part.strip():
            continue
        column = start + len(part) - len(part.lstrip())
        halves = list(_split(name, part, ":", start, most=1))
        if len(halves) < 2:
            raise ScheduleError(
                f'{name}, column {column + 1}: "{_short(part.strip())}" has no colon; write key: (value).'
            )
        (_, key), (value_start, value) = halves
        bare = _bare(value)
        if not bare:
            raise ScheduleError(f"{name}, column {value_start + 1}: there is no value after the colon.")
        value_column = value_start + len(value) - len(value.lstrip()) + 1
        entries.append(Entry(_bare(key), bare, column + 1, value_column))
    return entries


def _split(name: str, text: str, separator: str, offset: int, most: int | None = None) -> Iterator[tuple[int, str]]:
    """The parts of `text` between separators outside of parentheses and quotes, each with its place in the schedule."""
    depth, quote, opened, begin, count = 0, "", 0, 0, 0
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote, opened = character, place
        elif character == "(":
            opened = place if depth == 0 else opened
            depth += 1
        elif character == ")":
            depth -= 1
            if depth < 0:
                raise ScheduleError(f"{name}, column {offset + place + 1}: this ) closes nothing.")
        elif character == separator and depth == 0 and (most is None or count < most):
            yield offset + begin, text[begin:place]
            begin, count = place + 1, count + 1
    if quote or depth:
        raise ScheduleError(f"{name}, column {offset + opened + 1}: this {quote or '('} is never closed.")
    yield offset + begin, text[begin:]


def _bare(text: str) -> str:
    """Without blanks, then the parentheses, then the quotes that enclose all of it."""
    text = text.strip()
    if _enclosed(text):
        text = text[1:-1].strip()
    if len(text) >= 2 and text[0] in _QUOTES and text.find(text[0], 1) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def _enclosed(text: str) -> bool:
    depth, quote = 0, ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                return place == len(text) - 1 and text[0] == "("
        if depth == 0:
            return False
    return False


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
