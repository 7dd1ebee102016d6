"""Operations of Extras on what txt2img and img2img make, as far as setting postprocessing_enable_in_main_ui names them.

They stand on the tabs as an extension's parameters do; a change of the setting shows after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from webui.core.choices import Choices, ExtrasStep, load_function
from webui.core.params import Params
from webui.core.results import Picture
from webui.extensions.hookspecs import hookimpl


class MainTabs:
    """names: of the operations. easel: asked for the parts of the program when they are there."""

    def __init__(self, choices: Choices, names: Collection[str], easel: Callable[[], Any]) -> None:
        self._choices = choices
        self._easel = easel
        self._names = frozenset(names)

    @hookimpl
    def register_params(self) -> list[type[Params]]:
        return [step.params for step in self._steps(()) if step.params is not None]

    @hookimpl(trylast=True)
    def finish_batch(self, pictures: Sequence[Picture], this_pass: Any) -> list[Picture] | None:
        steps = self._steps(this_pass.plan.settings["postprocessing_operation_order"])
        if not steps:
            return None
        operated: Any = load_function("webui.pipeline.operations:operated_on")
        found: list[Picture] = []
        for picture in pictures:
            works = picture.role == "picture" and picture.complete
            found += operated(picture, steps, this_pass, self._choices, self._easel()) if works else [picture]
        return found

    def _steps(self, first: Sequence[str]) -> list[ExtrasStep]:
        return [step for step in self._choices.extras_steps(first) if step.name in self._names]
