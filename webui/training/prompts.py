"""What is said of a picture when an embedding or a hypernetwork learns it: a line of a template, filled in."""

from __future__ import annotations

import random
from collections.abc import Sequence

from webui.core.training import Templates
from webui.core.training_data import Item


def prompts_of(items: Sequence[Item], options: Templates, name: str, chance: str) -> list[str]:
    """A prompt an item. chance: a text that the choices are seeded with."""
    lines = [line.strip() for line in options.template.splitlines() if line.strip()] or ["[filewords]"]
    prompts = []
    for number, item in enumerate(items):
        drawn = random.Random(f"{chance}/{number}")
        words = _varied(item.caption, options, drawn)
        prompts.append(drawn.choice(lines).replace("[name]", name).replace("[filewords]", words))
    return prompts


def _varied(caption: str, options: Templates, drawn: random.Random) -> str:
    if not (options.shuffle_tags or options.tag_drop_out):
        return caption
    tags = [tag.strip() for tag in caption.split(",")]
    tags = [tag for tag in tags if not options.tag_drop_out or drawn.random() > options.tag_drop_out]
    if options.shuffle_tags:
        drawn.shuffle(tags)
    return ", ".join(tags)


def is_varied(options: Templates) -> bool:
    """Whether the same picture gets many prompts, so that their vectors aren't worth being kept."""
    return options.shuffle_tags or options.tag_drop_out > 0
