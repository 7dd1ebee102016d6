"""Prompt editing: `[from:to:when]`, `[to:when]`, `[from::when]` and alternation, `[one|other]`.

Text runs between the characters `\\ [ ] ( ) : |`, a backslash takes the next one along. Brackets of either
kind nest. In a pair of square brackets one or two colons, the last followed by a number, make an edit; bars
alone alternate; neither makes emphasis, which is left to `attention`. Round brackets may hold one colon.
Anything else in brackets is no group, nor is what is around it: there the brackets are text, as colons are
outside of all brackets. A bar that separates no options, or a backslash at the end of a line, leaves the
whole prompt as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from webui.core.errors import InvalidRequest

MAX_PARTS = 20_000
MAX_VISITS = 300_000
MAX_CHARACTERS = 20_000_000
"""Of all texts together."""

_TOKEN = re.compile(r"[^\\()\[\]:|]+|\\.|[\\()\[\]:|]")
_WHEN = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")


class ScheduledText(NamedTuple):
    """A text that is in use up to denoiser call `end_step`."""

    end_step: int
    text: str


def parse_schedule(
    text: str, steps: int, *, hires_steps: int | None = None, old: bool = False
) -> tuple[ScheduledText, ...]:
    """The texts of one pass by growing end step, the last of which is the pass's number of steps.

    steps: denoiser calls of the first pass (twice its steps for samplers of second order). hires_steps: those of
    the second pass, if the schedule is for that one: fractions from 1.0 to 2.0 and whole numbers beyond `steps`
    lie within it, smaller ones before it.
    old: a number below 1 is a fraction, others are steps, and the second pass repeats the schedule of `steps`.
    Raises: InvalidRequest if the prompt has so many parts that making its texts takes seconds.
    """
    hires = hires_steps is not None and not old
    count = steps if hires_steps is None or old else hires_steps

    def end_step(number: str) -> int:
        value = max(-1e9, min(float(number), 1e9))
        if old:
            value = value * count if value < 1 else value
        elif "." in number:
            value = (value - hires) * count
        else:
            value = value - steps if hires else value
        return min(int(value), count)

    parsed = _Parser(end_step)
    if not parsed.parse(text):
        return (ScheduledText(count, text),)
    ends = {count, *(end for end in parsed.switches if end >= 1)}
    if parsed.alternates:
        ends |= set(range(1, count + 1))
    if len(ends) * parsed.size > MAX_VISITS:
        raise InvalidRequest(f"The prompt switches {parsed.size} parts over {len(ends)} steps; use fewer of either.")
    if len(ends) * len(text) > MAX_CHARACTERS:
        raise InvalidRequest(f"The prompt of {len(text)} characters switches {len(ends)} times; shorten it.")
    return tuple(ScheduledText(end, "".join(_texts_at(parsed.items, end))) for end in sorted(ends))


def index_at(schedule: Sequence[ScheduledText], call: int) -> int:
    """Which entry denoiser call `call`, counted from 0, uses.

    Calls beyond the last end step, which samplers that choose their own steps make, use the first entry,
    as in the original program.
    """
    return next((i for i, entry in enumerate(schedule) if call <= entry.end_step), 0)


@dataclass(frozen=True, slots=True)
class _Edit:
    """`before` up to step `when`, counted from 1, then `after`."""

    before: list[_Item]
    after: list[_Item]
    when: int

    def at(self, step: int) -> list[_Item]:
        return self.before if step <= self.when else self.after


@dataclass(frozen=True, slots=True)
class _Alternation:
    """One option after the other, a step each."""

    options: list[list[_Item]]

    def at(self, step: int) -> list[_Item]:
        return self.options[(step - 1) % len(self.options)]


_Item: TypeAlias = "str | _Edit | _Alternation"


def _texts_at(items: list[_Item], step: int) -> Iterator[str]:
    """The pieces of text at `step`, counted from 1. Without recursion: prompts nest deeper than Python."""
    open_items = [iter(items)]
    while open_items:
        item = next(open_items[-1], None)
        if item is None:
            open_items.pop()
        elif isinstance(item, str):
            yield item
        else:
            open_items.append(iter(item.at(step)))


class _Group(NamedTuple):
    """An open bracket: its place among the items, and how many separators come before it."""

    bracket: str
    start: int
    separators: int


class _Parser:
    """Reads a prompt in one pass.

    A group is decided when its bracket closes; one that turns out to be none takes all that are open around it
    along, since their content isn't a prompt then. So nothing is read twice.
    """

    def __init__(self, end_step: Callable[[str], int]):
        """end_step: the step that a number in the prompt means."""
        self.end_step = end_step
        self.items: list[_Item] = []
        self.switches: list[int] = []
        self.alternates = False
        self.size = 0
        self._groups: list[_Group] = []
        self._separators: list[int] = []  # places of the colons and bars that stand right in an open group

    def parse(self, text: str) -> bool:
        """Fills items, switches (end steps of edits), alternates (whether anything does), size (of all items).

        Returns: False if the text isn't a prompt.
        """
        for token in _TOKEN.findall(text):
            if token == "\\":
                return False
            if token in ("(", "["):
                self._groups.append(_Group(token, len(self.items), len(self._separators)))
            elif token in (":", "|"):
                if self._groups:
                    self._separators.append(len(self.items))
                elif token == "|":
                    return False
            elif token in (")", "]"):
                if self._groups and self._close(self._groups[-1], token):
                    continue
                if not self._give_up_groups():
                    return False
            self.items.append(token)
        if not self._give_up_groups():
            return False
        self.items = self._joined(self.items)
        return True

    def _give_up_groups(self) -> bool:
        """Turn all open brackets into text; False if that leaves a bar outside of a group."""
        if any(self.items[place] == "|" for place in self._separators):
            return False
        self._groups.clear()
        self._separators.clear()
        return True

    def _close(self, group: _Group, bracket: str) -> bool:
        """Make the innermost open group what its content says; False if it isn't a group."""
        separators = self._separators[group.separators :]
        kinds = {self.items[place] for place in separators}
        if group.bracket + bracket == "()" and kinds <= {":"} and len(separators) <= 1:
            self.items.append(bracket)
        elif group.bracket + bracket != "[]" or len(kinds) > 1:
            return False
        elif kinds:
            parts = self._split(group.start, separators)
            made = _Alternation(parts) if kinds == {"|"} else self._edit(parts)
            if made is None:
                return False
            self.items[group.start :] = [made]
            self.alternates |= kinds == {"|"}
        else:
            self.items.append(bracket)
        self._groups.pop()
        del self._separators[group.separators :]
        return True

    def _edit(self, parts: list[list[_Item]]) -> _Edit | None:
        """[before:]after:when, or None."""
        *texts, last = parts
        number = _WHEN.fullmatch(last[0]) if len(last) == 1 and isinstance(last[0], str) else None
        if number is None or len(texts) > 2:
            return None
        when = self.end_step(number[1])
        self.switches.append(when)
        return _Edit(texts[0] if len(texts) == 2 else [], texts[-1], when)

    def _split(self, start: int, separators: Sequence[int]) -> list[list[_Item]]:
        """The items after the bracket at `start`, between separators."""
        bounds = [start, *separators, len(self.items)]
        return [self._joined(self.items[a + 1 : b]) for a, b in zip(bounds, bounds[1:], strict=False)]

    def _joined(self, items: list[_Item]) -> list[_Item]:
        """The same items with neighbouring texts joined; adds to `size`."""
        joined: list[_Item] = []
        texts: list[str] = []
        for item in items:
            if isinstance(item, str):
                texts.append(item)
                continue
            if texts:
                joined.append("".join(texts))
                texts.clear()
            joined.append(item)
        if texts:
            joined.append("".join(texts))
        self.size += len(joined)
        if self.size > MAX_PARTS:
            raise InvalidRequest(f"The prompt has more than {MAX_PARTS} parts that switch; use fewer.")
        return joined
