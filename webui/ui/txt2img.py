"""The txt2img tab: pictures from text alone, with the hires fix."""

from __future__ import annotations

import gradio as gr

from webui.services.forms import NO_SCRIPT, SCRIPT
from webui.services.infotexts import form_from_infotext
from webui.services.services import Services
from webui.ui.generation import ParameterColumn
from webui.ui.panels import build_scripts
from webui.ui.tab import GenerationTab, Update


class Txt2Img(GenerationTab):
    name = "txt2img"

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        assert self.output.upscale is not None
        inputs = {*self.fields.values(), *self.output.chosen}
        self.job.submits(self.output.upscale, self.upscale, inputs)

    def lay_out(self, column: ParameterColumn) -> None:
        column.slot("prompt")
        column.slot("image")
        column.slot("inpaint")
        column.sampler()
        column.slot("sampler")
        with column.accordions():
            hires = column.hires()
            column.refiner()
            column.slot("accordions")
        column.slot("checkboxes")
        with gr.Row():
            with column.size():
                pass
            column.batch()
        column.slot("dimensions")
        column.place("cfg_scale", "txt2img_cfg_scale")
        column.slot("cfg")
        column.slot("denoising")
        column.seed()
        column.slot("seed")
        column.slot("batch")
        column.overrides()
        column.slot("override_settings")
        with gr.Column(elem_id="txt2img_script_container"):
            column.slot("scripts")
            build_scripts(column, "script_list")
        fields = column.fields
        sizes = [fields[path] for path in ("width", "height")]
        sizes += [fields[f"hires.{name}"] for name in ("scale", "resize_width", "resize_height")]
        changes = [component.change for component in (*sizes, fields["hires"])]
        text = "(...sizes) => window.easel?.hiresText(...sizes) ?? ''"
        gr.on(changes, None, sizes, hires.extra, js=text, show_progress="hidden")

    def start(self, values: Update, job_id: str | None, user: str | None) -> None:
        self.submit_form(self.form(values), job_id, user)

    def upscale(self, values: Update, job_id: str | None, user: str | None) -> None:
        """The chosen picture again, with its own parameters and seed, and the hires fix as the form has it."""
        output = self.output
        infotext = output.infotext(values[output.generation_info], values[output.selected])
        own = form_from_infotext(infotext, self.services).form
        kept = {path: value for path, value in own.items() if not path.startswith("hires")}
        once = {"hires": True, "batch_count": 1, "batch_size": 1, SCRIPT: NO_SCRIPT}
        self.submit_form({**self.form(values), **kept, **once}, job_id, user)
