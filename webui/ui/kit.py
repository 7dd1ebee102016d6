"""What the builder of an extension's tab is given: the page's own pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.processing_utils import save_bytes_to_cache

from webui.core.errors import WebuiError
from webui.core.params import Params
from webui.core.request import GenerationRequest
from webui.services import generation
from webui.services.choices import choices_of
from webui.services.job_results import ShownFile, job_result
from webui.services.services import Services
from webui.ui import html
from webui.ui.generation import GenerationForm
from webui.ui.job_panel import JobPanel, Start
from webui.ui.widgets import specs_by_path, widget


class ResultPanel(JobPanel):
    """A job panel with everything: buttons, bar and preview, the pictures, a video, other files, and how it went.

    shown: the event after which a job's result is there.
    """

    def __init__(self, services: Services, name: str, start: Start, inputs: Iterable[Component], label: str) -> None:
        super().__init__(services, name)
        self.place_buttons(label)
        with gr.Column(elem_id=f"{name}_results", variant="panel"):
            with gr.Column(elem_id=f"{name}_gallery_container"):
                options = {"show_label": False, "columns": 4, "object_fit": "contain", "interactive": False}
                self.gallery = gr.Gallery(elem_id=f"{name}_gallery", preview=True, height=None, **options)
            self.video = gr.Video(elem_id=f"{name}_video", interactive=False, visible=False, show_label=False)
            self.files = gr.File(
                elem_id=f"{name}_files", file_count="multiple", interactive=False, visible=False, show_label=False
            )
            self.info = gr.HTML(elem_id=f"html_info_{name}", elem_classes=["infotext"])
            self.place_log()
        given = list(inputs)
        self.submits(self.generate, start, given, remembered=None)
        self.shown = self.shows(self.show, [self.gallery, self.video, self.files, self.info, self.log])

    def show(self, job_id: str) -> tuple[Any, ...]:
        """What the components show of a job that ended; only a sentence when it failed."""
        try:
            result = job_result(self.services, job_id)
        except WebuiError as error:
            return *[gr.skip()] * 4, html.problem(error)
        pictures = [file for file in result.files if file.kind == "image"]
        videos = [file for file in result.files if file.kind == "video"]
        others = [file for file in result.files if file not in (*pictures, *videos[:1])]
        return (
            gr.Gallery(value=[self._served(file) for file in pictures], selected_index=0 if pictures else None),
            gr.Video(value=self._served(videos[0]) if videos else None, visible=bool(videos)),
            gr.File(value=[self._served(file) for file in others] or None, visible=bool(others)),
            html.paragraphs(pictures[0].infotext) if pictures else "",
            html.paragraphs(result.message) + html.sentences(result.comments, "comments"),
        )

    def _served(self, file: ShownFile) -> str:
        if file.path is not None:
            return str(file.path)
        assert file.data is not None
        return save_bytes_to_cache(file.data, file.name, self.gallery.GRADIO_CACHE)


class PageKit:
    """easel: the parts of the program. forms: the generation forms that were made of it."""

    def __init__(self, services: Services, easel: Any) -> None:
        self.easel = easel
        self.forms: list[GenerationForm] = []
        self._services = services

    @property
    def settings(self) -> Any:
        """The settings as they are now."""
        return self._services.settings.snapshot()

    def generation_form(self, name: str) -> GenerationForm:
        """Prompts, sampler, size, seed and so on, with the panels of extensions, as one column.

        name: the beginning of all its element ids; "txt2img" and "img2img" are taken.
        """
        form = GenerationForm(self._services, name)
        self.forms.append(form)
        return form

    def widgets(self, group: type[Params], name: str) -> dict[str, Component]:
        """The components of a group's parameters, one below the other, by dotted path.

        name: the beginning of their element ids.
        """
        found = {}
        for path, spec in specs_by_path(group).items():
            choices = choices_of(self._services, spec) or None
            found[path] = widget(spec, f"{name}_{path.replace('.', '_')}", choices=choices)
        return found

    def job_panel(
        self, name: str, start: Start, inputs: Iterable[Component] = (), label: str = "Generate"
    ) -> ResultPanel:
        """Buttons, progress, preview and results of the jobs that `start(values by component, job id, user)` submits.

        name: the beginning of all its element ids. inputs: the components whose values `start` gets.
        """
        return ResultPanel(self._services, name, start, inputs, label)

    def submit_generation(self, request: GenerationRequest, job_id: str | None = None) -> str:
        """Queue a generation. Returns: its id. Raises: WebuiError."""
        return generation.submit_generation(self._services, request, job_id)
