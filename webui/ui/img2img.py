"""The img2img tab: pictures from pictures, drawings and masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.errors import InvalidRequest, WebuiError
from webui.core.image_choices import BY_FIELD
from webui.core.pictures import size_of
from webui.services import drawings
from webui.services.batches import submit_batch
from webui.services.describing import describe, describe_folder
from webui.services.generation import submit_generation
from webui.services.services import Services
from webui.ui import html
from webui.ui.generation import SPECS, ParameterColumn
from webui.ui.job_panel import places_of
from webui.ui.panels import build_scripts
from webui.ui.sources import (
    BATCH,
    EDITORS,
    IMG2IMG,
    INPAINT,
    INPAINT_SKETCH,
    INPAINT_UPLOAD,
    SKETCH,
    Sources,
    drawing_in,
)
from webui.ui.tab import GenerationTab, Update
from webui.ui.widgets import QUIET, input_accordion, tool

MASKED = (INPAINT, INPAINT_SKETCH, INPAINT_UPLOAD)
CAPTIONERS = ("clip", "deepdanbooru")
"""What the buttons beside the prompt describe pictures by, in their order."""
NO_PICTURE = "There is no picture to start from; load one first."
SOFT = {
    "schedule_bias": "mask_blend_power",
    "preservation": "mask_blend_scale",
    "contrast_boost": "inpaint_detail_preservation",
    "mask_influence": "composite_mask_influence",
    "difference_threshold": "composite_difference_threshold",
    "difference_contrast": "composite_difference_contrast",
}
"""Parameter of soft inpainting -> element id."""


class Img2Img(GenerationTab):
    name = "img2img"

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        top, source, fields = self.top, self.source, self.fields
        self.job.generate.click(None, None, None, js="() => easel.generateFromPicture()")
        pictures = [source.mode, source.drawn, source.picture, source.base]
        self.update_resized.click(self._resized_text, [*pictures, self.scale], self.resized, **QUIET)
        size = [fields["width"], fields["height"]]
        self.detected.click(self._detected_size, [*pictures, *size], size, **QUIET)
        for button, captioner in zip((top.interrogate, top.deepbooru), CAPTIONERS, strict=True):
            if button is not None:
                self._describes(button, captioner)

    # Layout

    def lay_out(self, column: ParameterColumn) -> None:
        services = self.services
        self.source = Sources(column.settings, folders=not services.flags.hide_ui_dir_config)
        column.slot("prompt")
        _radio(column, "image.resize_mode", "resize_mode")
        column.slot("image")
        self._inpaint_controls(column)
        self._soft_inpainting(column)
        column.slot("inpaint")
        column.sampler()
        column.slot("sampler")
        with column.accordions():
            column.refiner()
            column.slot("accordions")
        column.slot("checkboxes")
        with gr.Row():
            self._size(column)
            column.batch()
        column.slot("dimensions")
        with gr.Row():
            column.place("cfg_scale", "img2img_cfg_scale")
            column.place("image.image_cfg_scale", "img2img_image_cfg_scale", value=1.5, visible="hidden")
        column.slot("cfg")
        column.place("image.denoising_strength", "img2img_denoising_strength")
        column.slot("denoising")
        column.seed()
        column.slot("seed")
        column.slot("batch")
        column.overrides()
        column.slot("override_settings")
        with gr.Column(elem_id="img2img_script_container"):
            column.slot("scripts")
            build_scripts(column, "img2img_script_list")
        self.submit_button = gr.Button("Submit", elem_id="img2img_submit", visible="hidden")
        self.describing = {
            captioner: gr.Button("Describe", elem_id=f"img2img_describe_{captioner}", visible="hidden")
            for captioner in CAPTIONERS
        }

    def _inpaint_controls(self, column: ParameterColumn) -> None:
        with gr.Column(elem_id="inpaint_controls"):
            with gr.Row():
                column.place("image.inpaint.blur_x", "img2img_mask_blur")
                self.transparency = gr.Slider(
                    0,
                    100,
                    0,
                    step=1,
                    label="Mask transparency",
                    elem_id="img2img_mask_alpha",
                    buttons=[],
                    interactive=True,
                )
                column.fields["mask_transparency"] = self.transparency
            _radio(column, "image.inpaint.invert", "img2img_mask_mode")
            _radio(column, "image.inpaint.fill", "img2img_inpainting_fill")
            with gr.Row():
                _radio(column, "image.inpaint.only_masked", "img2img_inpaint_full_res", scale=1)
                column.place("image.inpaint.padding", "img2img_inpaint_full_res_padding", scale=2)

    def _soft_inpainting(self, column: ParameterColumn) -> None:
        with (
            gr.Row(elem_classes=["accordions"]),
            input_accordion("Soft inpainting", "soft_inpainting_enabled") as soft,
        ):
            column.fields["image.inpaint.soft"] = soft.enabled
            gr.Markdown(
                "Blends what is painted into the rest of the picture where the mask is soft: choose a **Mask blur** "
                "of 16 or more. Beyond the edge of the mask the picture may change a little."
            )
            for name, elem_id in SOFT.items():
                if name == "mask_influence":
                    gr.Markdown("**Pixel composite**: where the finished pixels and the original's are mixed.")
                column.place(f"image.inpaint.soft.{name}", elem_id)

    def _size(self, column: ParameterColumn) -> None:
        self.scaling = gr.Checkbox(False, visible="hidden", elem_id="img2img_is_scaling")
        with gr.Column(scale=4, min_width=280), gr.Tabs(elem_id="img2img_tabs_resize"):
            with (
                gr.Tab("Resize to", id="to", elem_id="img2img_tab_resize_to", render_children=True) as to_size,
                gr.Row(elem_id="img2img_size_row"),
                column.size(),
            ):
                detect = tool("📐", "img2img_detect_image_size_btn")
            with gr.Tab("Resize by", id="by", elem_id="img2img_tab_resize_by", render_children=True) as by_scale:
                self.scale = gr.Slider(
                    0.05, 4, 1, step=0.05, label="Scale", elem_id="img2img_scale", buttons=[], interactive=True
                )
                column.fields["scale"] = self.scale
                self.resized = gr.HTML("no image selected", elem_id="img2img_scale_resolution_preview")
        self.update_resized = gr.Button("Update", elem_id="img2img_update_resize_to", visible="hidden")
        self.detected = gr.Button("Detected", elem_id="img2img_detected_size", visible="hidden")
        to_size.select(None, None, self.scaling, js="() => false")
        by_scale.select(None, None, self.scaling, js="() => (easel.sourceChanged(), true)")
        self.scale.change(None, None, None, js="() => window.easel?.scaleChanged()")
        detect.click(None, None, None, js="() => easel.detectSize()")

    @property
    def submit(self) -> gr.Button:
        return self.submit_button

    @property
    def sources(self) -> Any:
        return [*self.source.inputs, self.scaling]

    @property
    def by_mode(self) -> dict[str, list[Component]]:
        return self.source.by_mode

    # From the page to a job

    def start(self, values: Update, job_id: str | None, user: str | None) -> None:
        services, mode = self.services, values[self.source.mode]
        form = self.form(values)
        scale = float(form["scale"]) if values[self.scaling] else None
        form |= {"image": True}
        form["image.inpaint.blur_y"] = form["image.inpaint.blur_x"]
        if mode == BATCH:
            form |= {"image.inpaint": True, "image.inpaint.mask": b""}
            wanted = self.request(form, user)
            submit_batch(services, self.source.batch.batch(services, wanted, values, scale), job_id)
            return
        picture, mask = self._pictures(mode, values, form)
        if scale is not None:
            form["width"], form["height"] = drawings.scaled_size(size_of(picture), scale)
        form["image.images"] = (picture,)
        if mode in MASKED:
            form |= {"image.inpaint": True, "image.inpaint.mask": mask}
        submit_generation(services, self.request(form, user), job_id)

    def _pictures(self, mode: str, values: Update, form: dict[str, Any]) -> tuple[bytes, bytes]:
        """(starting picture, mask or nothing). Raises: InvalidRequest for what is missing."""
        source = self.source
        if mode == IMG2IMG:
            return _file(values[source.picture], NO_PICTURE), b""
        if mode == INPAINT_UPLOAD:
            mask = "There is no mask; load a picture that is white where the other is to change."
            return _file(values[source.base], NO_PICTURE), _file(values[source.mask], mask)
        drawing = drawing_in(values[source.drawn])
        if drawing is None:
            raise InvalidRequest(NO_PICTURE)
        if mode == SKETCH:
            return drawings.sketch(drawing), b""
        if mode == INPAINT_SKETCH:
            return drawings.colour_sketch(drawing, form["image.inpaint.blur_x"], form["mask_transparency"])
        return drawing.background, drawings.painted_mask(drawing, inverted=form["image.inpaint.invert"])

    # In words

    def _describes(self, button: gr.Button, captioner: str) -> None:
        """Let the button put what the sub-tab's picture shows into the prompt; in Batch, into text files."""
        source, prompt = self.source, self.top.prompt
        button.click(None, None, None, js=f"() => easel.describePicture('{captioner}')")
        given: set[Component] = {
            source.mode,
            source.drawn,
            source.picture,
            source.base,
            source.batch.input,
            source.batch.output,
            prompt,
        }

        def describe(values: Update) -> str:
            try:
                return self._described(values, captioner, values[prompt])
            except WebuiError as error:
                raise gr.Error(html.escape(str(error)), print_exception=False) from error

        by_mode = {mode: places_of(given, given.intersection(own)) for mode, own in source.by_mode.items()}
        js = f"(...values) => easel.ofThisMode(values, {json.dumps(by_mode)})"
        self.describing[captioner].click(describe, given, prompt, js=js, **{**QUIET, "show_progress": "full"})

    def _described(self, values: Update, captioner: str, prompt: str) -> str:
        """Raises: WebuiError."""
        source, mode = self.source, values[self.source.mode]
        if mode == BATCH:
            folder, output = values[source.batch.input] or "", values[source.batch.output] or ""
            made = describe_folder(self.services, folder, captioner, output)
            gr.Info(html.escape(made.message))
            for comment in made.comments:
                gr.Warning(html.escape(comment))
            return prompt
        if mode in EDITORS:
            drawing = drawing_in(values[source.drawn])
            if drawing is None:
                raise InvalidRequest(NO_PICTURE)
            return describe(self.services, drawing.background, captioner)
        chosen = source.base if mode == INPAINT_UPLOAD else source.picture
        return describe(self.services, _file(values[chosen], NO_PICTURE), captioner)

    # Sizes

    def _resized_text(
        self, mode: str, drawn: list[str] | None, picture: str | None, base: str | None, scale: float
    ) -> str:
        try:
            size = _size_of(mode, drawn, picture, base)
        except WebuiError as error:
            return html.escape(str(error))
        if size is None:
            return "no image selected"
        width, height = drawings.scaled_size(size, scale)
        before = f"<span class='resolution'>{size[0]}x{size[1]}</span>"
        return f"resize: from {before} to <span class='resolution'>{width}x{height}</span>"

    def _detected_size(
        self, mode: str, drawn: list[str] | None, picture: str | None, base: str | None, width: int, height: int
    ) -> tuple[int, int]:
        try:
            size = _size_of(mode, drawn, picture, base)
        except WebuiError as error:
            gr.Warning(html.escape(str(error)))
            return width, height
        if size is None:
            gr.Warning(NO_PICTURE)
            return width, height
        return drawings.scaled_size(size, 1)


def _radio(column: ParameterColumn, path: str, elem_id: str, **options: Any) -> None:
    """Radio buttons for a parameter whose values have names."""
    spec = SPECS[path]
    column.fields[path] = gr.Radio(
        list(BY_FIELD[path].items()),
        value=spec.default,
        label=spec.label,
        elem_id=elem_id,
        interactive=True,
        **options,
    )


def _file(path: str | None, missing: str) -> bytes:
    """The content of a chosen file. Raises: InvalidRequest when none is chosen, or it is gone."""
    if not path:
        raise InvalidRequest(missing)
    try:
        return Path(path).read_bytes()
    except OSError:
        raise InvalidRequest("The picture is no longer on the server; load it again.") from None


def _size_of(mode: str, drawn: list[str] | None, picture: str | None, base: str | None) -> tuple[int, int] | None:
    """(width, height) of the picture in use; None when there is none. Raises: InvalidRequest."""
    if mode in EDITORS:
        drawing = drawing_in(drawn)
        return drawing.size if drawing is not None else None
    path = {IMG2IMG: picture, INPAINT_UPLOAD: base}.get(mode)
    return size_of(_file(path, NO_PICTURE)) if path else None
