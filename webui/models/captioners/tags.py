"""Tags as the settings want them written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_SPECIAL = re.compile(r"([\\()])")
"""What a prompt would take for syntax."""


def written_tags(scored: Iterable[tuple[str, float]], settings: Mapping[str, Any]) -> str:
    """The tags that score enough, ratings left out, in the order and the spelling of the settings.

    scored: (tag with underscores, 0 to 1).
    """
    threshold = settings["interrogate_deepbooru_score_threshold"]
    unwanted = {tag.strip().replace(" ", "_") for tag in settings["deepbooru_filter_tags"].split(",")}
    kept = [
        (tag, score)
        for tag, score in scored
        if score >= threshold and not tag.startswith("rating:") and tag not in unwanted
    ]
    kept.sort(key=(lambda item: item[0]) if settings["deepbooru_sort_alpha"] else (lambda item: -item[1]))
    return ", ".join(_written(tag, score, settings) for tag, score in kept)


def _written(tag: str, score: float, settings: Mapping[str, Any]) -> str:
    if settings["deepbooru_use_spaces"]:
        tag = tag.replace("_", " ")
    if settings["deepbooru_escape"]:
        tag = _SPECIAL.sub(r"\\\1", tag)
    return f"({tag}:{score:.3f})" if settings["interrogate_return_ranks"] else tag
