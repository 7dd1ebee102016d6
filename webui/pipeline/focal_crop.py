"""The part of a picture that matters most, cut out as Extras' "Auto focal point crop" does."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from webui.core.choices import ExtrasStep, load_function
from webui.core.errors import InvalidRequest
from webui.core.settings import Settings
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.pipeline.operations import StepContext

STEP = "Auto focal point crop"


def focal_crop(
    engine: Engine, settings: Settings, job: JobContext, tell: Callable[[str], None]
) -> Callable[[Image.Image, tuple[int, int]], Image.Image]:
    """A function `(picture, size) -> part of it`. tell: takes a sentence for the user, such as that faces aren't found.

    Raises: InvalidRequest when the extension that crops is off.
    """
    step = next((step for step in engine.choices.all(ExtrasStep) if step.name == STEP), None)
    if step is None or step.params is None:
        raise InvalidRequest(
            f'Crops where there is most to see are made by "{STEP}" of the extension training-pictures, which is off; '
            "enable it, or choose the middle."
        )
    values = step.params.checked(enabled=True)
    crop = load_function(step.function)

    def cropped(image: Image.Image, size: tuple[int, int]) -> Image.Image:
        context = StepContext(settings, engine.choices, engine.models, job, tell, target=size)
        part: Image.Image = crop(image, values, context)
        return part

    return cropped
