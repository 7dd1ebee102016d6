"""The text that a picture is trained with, made anew each time it is drawn."""

from __future__ import annotations

import random
import re

from webui.core.training_data import DataFolder

_CHOICE = re.compile(r"\{([^{}]*)\}")
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Stand for escaped braces while choices are made; of Unicode's private use area."""


def draw_caption(
    text: str, rules: DataFolder, rng: random.Random, *, epoch: int = 0, step: int = 0, steps: int = 1
) -> str:
    """The caption for one drawing of a picture.

    text: as its file has it. epoch: counted from 0. step: how many were done. steps: of the whole training.
    """
    text = " ".join(part for part in (rules.caption_prefix, text, rules.caption_suffix) if part)
    every = rules.caption_dropout_every_n_epochs
    drawn = rules.caption_dropout_rate > 0 and rng.random() < rules.caption_dropout_rate
    if drawn or (every > 0 and (epoch + 1) % every == 0):
        text = ""
    else:
        text = _one_of(text, rng) if rules.enable_wildcard else first_line(text)
        if rules.shuffle_caption or rules.caption_tag_dropout_rate > 0 or rules.token_warmup_step > 0:
            text = ", ".join(_tags(text, rules, rng, step, steps))
        elif rules.keep_tokens_separator:
            text = ", ".join(filter(None, (part.strip() for part in _parts(text, rules))))
    if rules.secondary_separator:
        text = text.replace(rules.secondary_separator, rules.caption_separator)
    return text


def caption_varies(rules: DataFolder) -> bool:
    """Whether a caption may be another one the next time, so that nothing can be computed of it beforehand."""
    drops = rules.caption_dropout_rate or rules.caption_dropout_every_n_epochs or rules.caption_tag_dropout_rate
    return bool(rules.shuffle_caption or rules.enable_wildcard or drops or rules.token_warmup_step)


def split_tags(text: str, separator: str) -> list[str]:
    """The tags of a caption; separator: "" for none."""
    return [tag.strip() for tag in (text.split(separator) if separator else [text]) if tag.strip()]


def _parts(text: str, rules: DataFolder) -> list[str]:
    return text.split(rules.keep_tokens_separator, 2) if rules.keep_tokens_separator else [text]


def _tags(text: str, rules: DataFolder, rng: random.Random, step: int, steps: int) -> list[str]:
    """Those that stay in front, those that move, those that stay behind."""
    separator = rules.caption_separator
    before, *after = _parts(text, rules)
    first, last = split_tags(before, separator), [split_tags(part, separator) for part in after[1:]]
    if after:
        flexible = split_tags(after[0], separator)
    else:
        first, flexible = first[: rules.keep_tokens], first[rules.keep_tokens :]
    if rules.token_warmup_step > 0:
        flexible = flexible[: _warm(len(flexible), rules, step, steps)]
    if rules.shuffle_caption:
        rng.shuffle(flexible)
    if rules.caption_tag_dropout_rate > 0:
        flexible = [tag for tag in flexible if rng.random() >= rules.caption_tag_dropout_rate]
    return [*first, *flexible, *(tag for part in last for tag in part)]


def _warm(count: int, rules: DataFolder, step: int, steps: int) -> int:
    """How many of `count` tags are in use after `step` of `steps`."""
    warmup, least = rules.token_warmup_step, rules.token_warmup_min
    length = max(1, int(warmup * steps) if warmup < 1 else int(warmup))
    return count if step >= length else int(step * (count - least) / length) + least


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
