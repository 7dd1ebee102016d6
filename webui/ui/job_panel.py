"""One place on the page where jobs are started, watched and stopped, and where it is seen what they made.

A click only submits a job, under an id that the page drew. assets/progress.js watches it, draws bar and preview into
the panel's container, and clicks the hidden result button when it has ended, so that neither a queue slot nor the job
hangs on the connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from webui.core.errors import NotFound, WebuiError
from webui.services import generation
from webui.services.services import Services
from webui.ui import html
from webui.ui.visitors.visitors import owner_of
from webui.ui.widgets import QUIET, show_problem

Start: TypeAlias = Callable[[dict[Component, Any], str | None, str | None], None]
"""start(values by component, job id, user): submits the job. Raises: WebuiError, shown in the panel."""


class JobPanel:
    """Building it places its hidden parts."""

    generate: gr.Button

    def __init__(self, services: Services, name: str) -> None:
        """name: the beginning of all element ids, by which the scripts find the parts."""
        self.services = services
        self.name = name
        self.job_id = gr.Textbox(elem_id=f"{name}_job_id", visible="hidden")
        self._outcome = gr.Textbox(elem_id=f"{name}_outcome", visible="hidden")
        self._ended = gr.Button("Show the result", elem_id=f"{name}_show_result", visible="hidden")

    def place_buttons(self, label: str = "Generate", *, start: str = "generate", interrupt: str = "Interrupt") -> None:
        """Start, Interrupt and Skip. label, interrupt: what they are called. start: ends the first one's element id."""
        name, jobs = self.name, self.services.jobs
        with gr.Row(elem_id=f"{name}_generate_box", elem_classes=["generate-box"]):
            self.generate = gr.Button(
                label, elem_id=f"{name}_{start}", elem_classes=["generate-box-start"], variant="primary"
            )
            stop = gr.Button(interrupt, elem_id=f"{name}_interrupt", elem_classes=["generate-box-interrupt"])
            stopping = gr.Button(
                "Interrupting...", elem_id=f"{name}_interrupting", elem_classes=["generate-box-interrupting"]
            )
            skip = gr.Button("Skip", elem_id=f"{name}_skip", elem_classes=["generate-box-skip"])
        current = f"() => easel.currentJob('{name}')"
        for button in (stop, stopping):
            button.click(self._stop, self.job_id, None, js=current, **QUIET)
        skip.click(lambda job: jobs.skip(job or None), self.job_id, None, js=current, **QUIET)

    def place_log(self) -> None:
        """Where sentences about the job stand."""
        self.log = gr.HTML(elem_id=f"html_log_{self.name}", elem_classes=["html-log"])

    def submits(
        self,
        button: gr.Button,
        start: Start,
        inputs: Iterable[Component],
        remembered: Iterable[Component] | None = None,
        by_mode: Mapping[str, Iterable[Component]] | None = None,
        mode: str = "",
    ) -> None:
        """Let the button's click submit a job.

        inputs: whose values it is made from. remembered: those that a reloaded page shows again.
        by_mode: the inputs that are only sent in one mode each. mode: an expression of JavaScript for the mode in use;
        by default the sub-tab of img2img.
        """
        given = {self.job_id, *inputs}
        places = None if remembered is None else places_of(given, remembered)

        def submit(values: dict[Component, Any], request: gr.Request) -> tuple[str, str]:
            job_id = values[self.job_id]
            try:
                start(values, job_id or None, request.username or None)
            except (WebuiError, OSError) as error:
                return json.dumps({"job": job_id, "accepted": False}), show_problem(error)
            if job_id:
                self.services.belongings.take_job(owner_of(request), job_id)
            return json.dumps({"job": job_id, "accepted": True}), ""

        (id_place,) = places_of(given, [self.job_id])
        values = "values"
        if by_mode is not None:
            places_by_mode = {mode: places_of(given, components) for mode, components in by_mode.items()}
            chosen = f", {mode}" if mode else ""
            values = f"easel.ofThisMode(values, {json.dumps(places_by_mode)}{chosen})"
        draw = f"(...values) => easel.newJob('{self.name}', {values}, {id_place}, {json.dumps(places)})"
        watch = f"(outcome) => easel.submitted('{self.name}', outcome)"
        submitted = button.click(submit, given, [self._outcome, self.log], js=draw, **QUIET)
        submitted.success(None, self._outcome, None, js=watch)
        submitted.failure(None, None, None, js=f"() => easel.notSubmitted('{self.name}')")

    def shows(self, show: Callable[[str], Any], outputs: Iterable[Component]) -> Dependency:
        """Let `show(job id)` fill the outputs when a job has ended, well or not. Returns: the event that does so."""

        def show_own(job_id: str, request: gr.Request) -> Any:
            try:
                self.services.belongings.check_job(owner_of(request), job_id)
            except NotFound as error:
                gr.Warning(html.escape(str(error)))
                return gr.skip()
            return show(job_id)

        shown = f"() => easel.shownJob('{self.name}')"
        return self._ended.click(show_own, self.job_id, list(outputs), js=shown, **QUIET)

    def _stop(self, job_id: str) -> None:
        generation.stop(self.services, job_id or None)


def places_of(inputs: Iterable[Component], wanted: Iterable[Component]) -> list[int]:
    """Where the wanted components stand among the inputs, which Gradio hands over in the order they were made."""
    ordered = sorted(inputs, key=lambda component: component._id)
    chosen = set(wanted)
    return [place for place, component in enumerate(ordered) if component in chosen]
