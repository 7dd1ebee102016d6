"""The Checkpoint Merger tab."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.errors import WebuiError
from webui.core.merging import ADD_DIFFERENCE, CONFIG_SOURCES, METHODS, OVERWRITE, WEIGHTED_SUM, MergeRequest
from webui.jobs.errors import JobCancelled
from webui.services.merging import read_metadata, submit_merge
from webui.services.services import Services
from webui.ui.html import escape, paragraphs
from webui.ui.job_panel import JobPanel
from webui.ui.tab import Update
from webui.ui.widgets import QUIET, show_problem, specs_by_path, tool, widget

TAB = "modelmerger"
SPECS = specs_by_path(MergeRequest)
MODELS = ("primary", "secondary", "tertiary")
EXPLANATIONS = {
    METHODS[0]: "One model, A, is written as it is: to change its format, bake a VAE in, or leave weights out.",
    WEIGHTED_SUM: "Two models, A and B, are blended: A * (1 - M) + B * M",
    ADD_DIFFERENCE: "Of three models, what B learned over C is added to A: A + (B - C) * M",
}


class Merger:
    """Building it lays the tab out and wires it. fields: parameter name -> component."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.fields: dict[str, Component] = {}
        self.refreshers: dict[str, gr.Button] = {}
        with gr.Tab("Checkpoint Merger", id=TAB, elem_id=f"tab_{TAB}", render_children=True):
            self.job = JobPanel(services, TAB)
            with gr.Row(equal_height=False):
                with gr.Column():
                    self._options()
                with (
                    gr.Column(elem_id=f"{TAB}_results_container"),
                    gr.Column(elem_id=f"{TAB}_results_panel", variant="panel"),
                ):
                    gr.Column(elem_id=f"{TAB}_gallery_container")
                    with gr.Column(elem_id=f"{TAB}_result"):
                        self.job.place_log()
        self._wire()

    @property
    def models(self) -> list[Component]:
        return [self.fields[name] for name in MODELS]

    # Layout

    def _options(self) -> None:
        self.explanation = gr.HTML(_explained(WEIGHTED_SUM), elem_id=f"{TAB}_interp_description")
        titles = list(self.services.checkpoints.titles())
        with gr.Row(elem_id=f"{TAB}_models"):
            for name, letter in zip(MODELS, "ABC", strict=True):
                options = {"choices": titles, "value": None, "allow_custom_value": True}
                self._place(name, f"{name}_model_name", min_width=100, **options)
                self.refreshers[name] = tool("🔄", f"refresh_checkpoint_{letter}")
        self._place("custom_name", "custom_name")
        self._place("multiplier", "interp_amount")
        self._radio("method", "interp_method", METHODS)
        with gr.Row():
            self._radio("format", "checkpoint_format", ("ckpt", "safetensors"))
            self._place("half", "save_as_half")
        with gr.Row():
            self._radio("config_source", "config_method", CONFIG_SOURCES, type="index", value=CONFIG_SOURCES[0])
            with gr.Row():
                self._place("vae", "bake_in_vae", choices=self._vaes())
                self.refresh_vae = tool("🔄", f"{TAB}_refresh_bake_in_vae")
        self._place("discard", "discard_weights")
        with gr.Accordion("Metadata", open=False):
            with gr.Row():
                self._place("save_metadata", "save_metadata")
                self._place("add_recipe", "add_recipe")
                self._place("copy_metadata", "copy_metadata")
            self._place("metadata", "metadata_json", lines=7)
            self.read = gr.Button("Read metadata from selected checkpoints", elem_id=f"{TAB}_read_metadata")
        self._place("overwrite", "overwrite", visible=False)
        self.job.place_buttons("Merge", start="merge", interrupt="Cancel")

    def _place(self, name: str, elem_id: str, **options: Any) -> None:
        self.fields[name] = widget(SPECS[name], f"{TAB}_{elem_id}", **options)

    def _radio(self, name: str, elem_id: str, choices: tuple[str, ...], **options: Any) -> None:
        options = {"value": SPECS[name].default, **options}
        self.fields[name] = gr.Radio(
            list(choices), label=SPECS[name].label, elem_id=f"{TAB}_{elem_id}", interactive=True, **options
        )

    def _vaes(self) -> list[str]:
        return ["None", *(file.file_name for file in self.services.vaes.all())]

    # What the buttons do

    def _wire(self) -> None:
        fields = self.fields
        fields["method"].change(_explained, fields["method"], self.explanation, **QUIET)
        for button in self.refreshers.values():
            button.click(self._fresh_models, None, self.models, **QUIET)
        self.refresh_vae.click(self._fresh_vaes, None, fields["vae"], **QUIET)
        self.read.click(self._metadata, self.models, fields["metadata"], **QUIET)
        self.job.submits(self.job.generate, self._start, fields.values())
        self.job.shows(self._shown, [self.job.log, fields["overwrite"], *self.models])

    def _fresh_models(self) -> list[Any]:
        self.services.checkpoints.refresh()
        titles = list(self.services.checkpoints.titles())
        return [gr.Dropdown(choices=titles)] * len(MODELS)

    def _fresh_vaes(self) -> Any:
        self.services.vaes.refresh()
        return gr.Dropdown(choices=self._vaes())

    def _metadata(self, *names: str | None) -> Any:
        try:
            return read_metadata(self.services, [name or "" for name in names])
        except WebuiError as error:
            gr.Warning(escape(str(error)))
            return gr.skip()

    def _start(self, values: Update, job_id: str | None, user: str | None) -> None:
        """Submit the merge. Raises: WebuiError."""
        wanted = {name: values[component] for name, component in self.fields.items()}
        wanted = {name: SPECS[name].default if value is None else value for name, value in wanted.items()}
        submit_merge(self.services, MergeRequest.as_given(**wanted), job_id)

    def _shown(self, job_id: str) -> tuple[Any, ...]:
        """How the merge ended, the question whether to replace a file, and the lists with the new one."""
        try:
            result: Any = self.services.jobs.result(job_id)
        except JobCancelled:
            result = None
        except WebuiError as error:
            asks = OVERWRITE in str(error)
            return show_problem(error), gr.Checkbox(value=False, visible=asks), *[gr.skip()] * len(MODELS)
        message = result.message if result else "Merging was cancelled; nothing was written."
        return paragraphs(message), gr.Checkbox(value=False, visible=False), *self._fresh_models()


def _explained(method: str) -> str:
    return f"<p>{escape(EXPLANATIONS[method])}</p>"
