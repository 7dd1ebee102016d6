"""What is decided about a job of the Extras tab before it waits in the queue."""

from __future__ import annotations

from dataclasses import dataclass

from webui.core.choices import Choices
from webui.core.errors import InvalidRequest
from webui.core.extras import ExtrasRequest
from webui.core.settings import Settings


@dataclass(frozen=True)
class ExtrasPlan:
    """The request with the settings as they were when it was asked for."""

    request: ExtrasRequest
    settings: Settings


def make_extras_plan(request: ExtrasRequest, settings: Settings, choices: Choices) -> ExtrasPlan:
    """Raises: InvalidRequest for what can't be done here."""
    choices.find_upscaler(request.upscaler_1)
    choices.find_upscaler(request.upscaler_2)
    for name, visibility in (("GFPGAN", request.gfpgan_visibility), ("CodeFormer", request.codeformer_visibility)):
        if visibility > 0:
            raise InvalidRequest(f"Face restoration by {name} isn't installed; set its visibility to 0.")
    if not request.sources:
        raise InvalidRequest("There is no picture to work on; choose one first.")
    return ExtrasPlan(request, settings)
