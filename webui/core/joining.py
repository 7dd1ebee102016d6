"""Many results as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from webui.core.errors import NoSpace, NotSaved
from webui.core.request import GenerationResult

PER_PICTURE = ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds", "infotexts")
"""Entries of a result's info with one value a picture."""


def joined(results: Sequence[GenerationResult]) -> GenerationResult:
    """All pictures, files, comments and facts, in order; a result without facts, as of a grid, keeps its place.

    The grids of the others stay where they were saved and aren't handed over, as nobody could tell whose they are.
    """
    images = tuple(image for one in results for image in one.images if not (image.is_grid and one.info))
    info: dict[str, Any] = {}
    for one in results:
        info = joined_info(info, one.info) if one.info else info
    if info:
        info["index_of_first_image"] = 1 if images and images[0].is_grid else 0
        info["infotexts"] = [image.infotext for image in images if image.infotext]
    return GenerationResult(
        images,
        info,
        tuple(dict.fromkeys(comment for one in results for comment in one.comments)),
        sum(one.seconds for one in results),
        _unsaved(results),
        tuple(file for one in results for file in one.files),
    )


def joined_info(before: Mapping[str, Any], info: Mapping[str, Any], room: int | None = None) -> dict[str, Any]:
    """The facts of all pictures so far: the first result's, and lists over all that are handed back.

    room: how many more pictures are handed back; None for all.
    """
    whole = dict(before or info)
    for key in PER_PICTURE:
        whole[key] = [*before.get(key, ()), *list(info.get(key, ()))[:room]]
    whole["index_of_first_image"] = 0
    return whole


def _unsaved(results: Sequence[GenerationResult]) -> NotSaved | None:
    """Why pictures are on no disk: the gravest reason, else the latest."""
    reasons = [one.unsaved for one in results if one.unsaved is not None]
    return next((reason for reason in reasons if isinstance(reason, NoSpace)), reasons[-1] if reasons else None)
