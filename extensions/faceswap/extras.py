"""The step of the Extras tab."""

from __future__ import annotations

from typing import Any

from PIL import Image

from .parameters import ReActorStep
from .swapping import Bench, Swapping


def step(image: Image.Image, values: ReActorStep, context: Any) -> Image.Image:
    """The picture with its faces exchanged. Raises: WebuiError for what is missing; what can't be done is told."""
    if not values.enabled:
        return image
    values.require_sense()
    easel = context.easel
    bench = Bench(
        context.models,
        context.choices,
        context.settings,
        context.job,
        easel.paths.models,
        context.tell,
        easel.folder_of,
    )
    swapping = Swapping(values, bench)
    try:
        swapped = swapping.swap(image, swapping.sources(0)[0])
    finally:
        swapping.put_away()
    if swapped.exchanged:
        context.done["ReActor"] = True
        context.composite = True
    return swapped.image
