"""What is decided about a job of the Extras tab before it waits in the queue."""

from __future__ import annotations

from dataclasses import dataclass

from webui.catalog.face_restorers import CODEFORMER, GFPGAN
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
    for name in (request.upscaler_1, request.upscaler_2):
        choices.find_upscaler(name).require()
    for name, visibility in ((GFPGAN, request.gfpgan_visibility), (CODEFORMER, request.codeformer_visibility)):
        if visibility > 0:
            choices.find_face_restorer(name)
    if not request.sources:
        raise InvalidRequest("There is no picture to work on; choose one first.")
    return ExtrasPlan(request, settings)
