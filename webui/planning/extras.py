"""What is decided about a job of the Extras tab before it waits in the queue."""

from __future__ import annotations

from dataclasses import dataclass

from webui.catalog.face_restorers import CODEFORMER, GFPGAN
from webui.core.choices import Choices, ExtrasStep, load_function
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
    """Raises: InvalidRequest, NotFound for what can't be done here."""
    plan = ExtrasPlan(request, settings)
    for step in plan.steps_of(choices):
        if step.check:
            load_function(step.check)(request.values_of(step.params), choices)
    if not request.sources:
        raise InvalidRequest("There is no picture to work on; choose one first.")
    return plan


def check_upscalers(values: Upscaling, choices: Choices) -> None:
    """Raises: InvalidRequest for an upscaler that isn't there, or lacks its weights."""
    for name in (values.upscaler_1, values.upscaler_2):
        choices.find_upscaler(name).require()


def check_gfpgan(values: GFPGANRestoring, choices: Choices) -> None:
    """Raises: InvalidRequest when GFPGAN is wished for and lacks its weights."""
    if values.gfpgan_visibility > 0:
        choices.find_face_restorer(GFPGAN)


def check_codeformer(values: CodeFormerRestoring, choices: Choices) -> None:
    """As `check_gfpgan`, of CodeFormer."""
    if values.codeformer_visibility > 0:
        choices.find_face_restorer(CODEFORMER)
