"""What is decided about a job of the Extras tab before it waits in the queue."""

from __future__ import annotations

from dataclasses import dataclass

from webui.catalog.face_restorers import CODEFORMER, GFPGAN
from webui.core.choices import Choices, ExtrasStep
from webui.core.errors import InvalidRequest
from webui.core.extras import ExtrasRequest
from webui.core.operations import CodeFormerRestoring, GFPGANRestoring, Upscaling
from webui.core.settings import Settings


@dataclass(frozen=True)
class ExtrasPlan:
    """The request with the settings as they were when it was asked for."""

    request: ExtrasRequest
    settings: Settings

    def steps_of(self, choices: Choices) -> tuple[ExtrasStep, ...]:
        """The operations in their order, without those that the settings leave out."""
        steps = choices.extras_steps(self.settings["postprocessing_operation_order"])
        left_out = self.settings["postprocessing_disable_in_extras"]
        return tuple(step for step in steps if step.name not in left_out)


def make_extras_plan(request: ExtrasRequest, settings: Settings, choices: Choices) -> ExtrasPlan:
    """Raises: InvalidRequest for what can't be done here."""
    plan = ExtrasPlan(request, settings)
    done = {step.params for step in plan.steps_of(choices)}
    if Upscaling in done:
        for name in (request.upscaler_1, request.upscaler_2):
            choices.find_upscaler(name).require()
    restorers = (
        (GFPGANRestoring, GFPGAN, request.gfpgan_visibility),
        (CodeFormerRestoring, CODEFORMER, request.codeformer_visibility),
    )
    for group, name, visibility in restorers:
        if visibility > 0 and group in done:
            choices.find_face_restorer(name)
    if not request.sources:
        raise InvalidRequest("There is no picture to work on; choose one first.")
    return plan
