"""The text that a picture is trained with, made anew each time it is drawn."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_CHOICE = re.compile(r"\{([^{}]*)\}")
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Stand for escaped braces while choices are made; of Unicode's private use area."""


@dataclass(frozen=True)
class CaptionRules:
    """separator: of tags. secondary_separator: becomes the separator at the end, so that what it joins moves together.

    shuffle: of all tags but the kept ones: the first `keep_tokens`, or all before `keep_separator` (and all after a
    second one). dropout: probability of an empty caption, 0 to 1. dropout_every: in each so-manieth epoch all captions
    are empty, 0 for none. tag_dropout: probability for each tag that isn't kept. wildcards: `{a|b}` becomes one of its
    parts and a caption of several lines one of these. warmup_min, warmup_steps: the tags grow from that many to all
    within so many steps; below 1 a share of all steps.
    """

    prefix: str = ""
    suffix: str = ""
    separator: str = ","
    secondary_separator: str = ""
    shuffle: bool = False
    keep_tokens: int = 0
    keep_separator: str = ""
    wildcards: bool = False
    dropout: float = 0.0
    dropout_every: int = 0
    tag_dropout: float = 0.0
    warmup_min: int = 1
    warmup_steps: float = 0.0
    replacements: Mapping[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether a caption may be another one the next time, so that nothing can be computed of it beforehand."""
        drops = self.dropout or self.dropout_every or self.tag_dropout
        return bool(self.shuffle or self.wildcards or drops or self.warmup_steps)

    def caption(self, text: str, rng: random.Random, *, epoch: int = 1, step: int = 0, steps: int = 1) -> str:
        """The caption for one drawing of a picture.

        epoch: counted from 1. step: how many were done. steps: of the whole training.
        """
        text = " ".join(part for part in (self.prefix, text, self.suffix) if part)
        if self.dropout > 0 and rng.random() < self.dropout:
            text = ""
        elif self.dropout_every > 0 and epoch % self.dropout_every == 0:
            text = ""
        else:
            text = _one_of(text, rng) if self.wildcards else first_line(text)
            if self.shuffle or self.tag_dropout > 0 or self.warmup_steps > 0:
                text = ", ".join(self._tags(text, rng, step, steps))
            elif self.keep_separator:
                text = ", ".join(filter(None, (part.strip() for part in self._parts(text))))
        if self.secondary_separator:
            text = text.replace(self.secondary_separator, self.separator)
        for old, new in self.replacements.items():
            text = text.replace(old, new)
        return text

    def _parts(self, text: str) -> Sequence[str]:
        return text.split(self.keep_separator, 2) if self.keep_separator else [text]

    def _tags(self, text: str, rng: random.Random, step: int, steps: int) -> list[str]:
        first: list[str] = []
        last: list[str] = []
        if self.keep_separator and self.keep_separator in text:
            before, moving, *after = self._parts(text)
            first, flexible = self._split(before), self._split(moving)
            last = self._split(after[0]) if after else []
        else:
            tags = self._split(text)
            first, flexible = tags[: self.keep_tokens], tags[self.keep_tokens :]
        if self.warmup_steps > 0:
            flexible = flexible[: self._warm(len(flexible), step, steps)]
        if self.shuffle:
            rng.shuffle(flexible)
        if self.tag_dropout > 0:
            flexible = [tag for tag in flexible if rng.random() >= self.tag_dropout]
        return [*first, *flexible, *last]

    def _warm(self, count: int, step: int, steps: int) -> int:
        """How many of `count` tags are in use after `step` of `steps`."""
        length = max(1, int(self.warmup_steps * steps) if self.warmup_steps < 1 else int(self.warmup_steps))
        if step >= length:
            return count
        return int(step * (count - self.warmup_min) / length) + self.warmup_min

    def _split(self, text: str) -> list[str]:
        return [tag.strip() for tag in text.strip().split(self.separator) if tag.strip()]


def first_line(text: str) -> str:
    """The first line of a caption, which is the caption unless it has wildcards."""
    return text.strip().split("\n", 1)[0].strip()


def caption_of_name(stem: str) -> str:
    """What fast-DreamBooth makes of a file's name: `sks_man (7)` is `sks man`.

    Digits go, underscores become spaces, brackets and dashes go.
    """
    text = re.sub(r"[()\-\d]", "", stem).replace("_", " ")
    return " ".join(text.split())


def _one_of(text: str, rng: random.Random) -> str:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    chosen = rng.choice(lines) if lines else ""
    chosen = chosen.replace("{{", _OPEN).replace("}}", _CLOSE)
    while _CHOICE.search(chosen):
        chosen = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), chosen)
    return chosen.replace(_OPEN, "{").replace(_CLOSE, "}")
