"""The txt2img tab: pictures from text alone, with the hires fix."""

from __future__ import annotations

import gradio as gr

from webui.core.errors import WebuiError
from webui.services.infotexts import form_from_infotext
from webui.services.services import Services
from webui.ui.generation import ParameterColumn
from webui.ui.tab import GenerationTab, Update, accepted, refuse


class Txt2Img(GenerationTab):
    name = "txt2img"

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        assert self.output.upscale is not None
        self.submits(self.output.upscale, self.upscale, self.output.chosen, keep=False)

    def lay_out(self, column: ParameterColumn) -> None:
        column.sampler()
        with column.accordions():
            hires = column.hires()
            column.refiner()
        with gr.Row():
            with column.size():
                pass
            column.batch()
        column.place("cfg_scale", "txt2img_cfg_scale")
        column.seed()
        column.overrides()
        with gr.Column(elem_id="txt2img_script_container"):
            column.extensions(self.services.host.params)
            gr.Dropdown(
                choices=["None"],
                value="None",
                label="Script (none installed yet)",
                elem_id="script_list",
                interactive=True,
            )
        fields = column.fields
        sizes = [fields[path] for path in ("width", "height")]
        sizes += [fields[f"hires.{name}"] for name in ("scale", "resize_width", "resize_height")]
        changes = [component.change for component in (*sizes, fields["hires"])]
        text = "(...sizes) => window.easel?.hiresText(...sizes) ?? ''"
        gr.on(changes, None, sizes, hires.extra, js=text, show_progress="hidden")

    def start(self, values: Update, job_id: str, user: str | None) -> None:
        self.submit_form(self.form(values), job_id, user)

    def upscale(self, values: Update, request: gr.Request) -> tuple[str, str]:
        """The chosen picture again, with its own parameters and seed, and the hires fix as the form has it."""
        output, job_id = self.output, values[self.job_id]
        try:
            infotext = output.infotext(values[output.generation_info], values[output.selected])
            own = form_from_infotext(infotext, self.services).form
            kept = {path: value for path, value in own.items() if not path.startswith("hires")}
            once = {"hires": True, "batch_count": 1, "batch_size": 1}
            self.submit_form({**self.form(values), **kept, **once}, job_id, request.username or None)
        except WebuiError as error:
            return refuse(job_id, error)
        return accepted(job_id)
