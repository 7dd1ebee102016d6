"""The Checkpoint Merger tab."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.errors import WebuiError
from webui.core.merging import ADD_DIFFERENCE, CONFIG_SOURCES, METHODS, OVERWRITE, WEIGHTED_SUM, MergeRequest
from webui.services.merging import read_metadata, submit_merge
from webui.services.services import Services
from webui.ui.html import escape, paragraphs
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
WATCHED_EVERY = 0.25
"""Seconds between two looks at the running merge."""


class Merger:
    """Building it lays the tab out and wires it. fields: parameter name -> component."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.fields: dict[str, Component] = {}
        self.refreshers: dict[str, gr.Button] = {}
        with gr.Tab("Checkpoint Merger", id=TAB, elem_id=f"tab_{TAB}", render_children=True):
            self.job_id = gr.Textbox(visible="hidden")
            with gr.Row(equal_height=False):
                with gr.Column():
                    self._options()
                with (
                    gr.Column(elem_id=f"{TAB}_results_container"),
                    gr.Column(elem_id=f"{TAB}_results_panel", variant="panel"),
                ):
                    self.result = gr.HTML(elem_id=f"{TAB}_result")
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
                self._place(name, f"{name}_model_name", choices=titles, value=None, allow_custom_value=True)
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
        with gr.Row():
            self.merge = gr.Button("Merge", elem_id=f"{TAB}_merge", variant="primary")
            self.cancel = gr.Button("Cancel", elem_id=f"{TAB}_cancel", visible=False)

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
        services, fields = self.services, self.fields
        fields["method"].change(_explained, fields["method"], self.explanation, **QUIET)
        for button in self.refreshers.values():
            button.click(self._fresh_models, None, self.models, **QUIET)
        self.refresh_vae.click(self._fresh_vaes, None, fields["vae"], **QUIET)
        self.read.click(self._metadata, self.models, fields["metadata"], **QUIET)
        shown = [self.result, self.merge, self.cancel, fields["overwrite"]]
        started = self.merge.click(self._start, set(fields.values()), [self.job_id, *shown], **QUIET)
        started.then(self._watch, self.job_id, [*shown, *self.models], **QUIET)
        self.cancel.click(lambda job: services.jobs.interrupt(job or None), self.job_id, None, **QUIET)

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

    def _start(self, values: Update) -> tuple[Any, ...]:
        """Submit the merge. Returns: the job's id, "" when there is none, and what is shown."""
        wanted = {name: values[component] for name, component in self.fields.items()}
        wanted = {name: SPECS[name].default if value is None else value for name, value in wanted.items()}
        try:
            job = submit_merge(self.services, MergeRequest.as_given(**wanted))
        except WebuiError as error:
            return "", *_shown(show_problem(error), False)
        return job, *_shown(paragraphs("Waiting for what runs now."), True)

    async def _watch(self, job: str) -> AsyncIterator[tuple[Any, ...]]:
        """Show how far the merge is, then how it ended."""
        lists = [gr.skip()] * len(MODELS)
        if not job:
            yield *[gr.skip()] * 4, *lists
            return
        jobs, last = self.services.jobs, ""
        while not (progress := jobs.progress(job)).ended:
            line = f"{progress.text or 'Waiting for what runs now'}."
            if line != last:
                last = line
                yield *_shown(paragraphs(line), True), *lists
            await asyncio.sleep(WATCHED_EVERY)
        if progress.error:
            asks = OVERWRITE in progress.error.message
            yield *_shown(show_problem(progress.error.message), False, asks), *lists
            return
        result: Any = jobs.result(job, 0) if progress.state == "done" else None
        message = result.message if result else "Merging was cancelled; nothing was written."
        yield *_shown(paragraphs(message), False), *self._fresh_models()


def _explained(method: str) -> str:
    return f"<p>{escape(EXPLANATIONS[method])}</p>"


def _shown(html: str, running: bool, asks: bool = False) -> tuple[Any, ...]:
    """The result's text, the two buttons, and the question whether to replace a file."""
    return (
        html,
        gr.Button(interactive=not running),
        gr.Button(visible=running),
        gr.Checkbox(value=False, visible=asks) if not running else gr.skip(),
    )
