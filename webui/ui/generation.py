"""The column of generation parameters: the pieces that txt2img and img2img lay out, one component a parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.choices import (
    SAME_CHECKPOINT,
    SAME_SAMPLER,
    SAME_SCHEDULER,
    Sampler,
    Scheduler,
)
from webui.core.request import GenerationRequest
from webui.extensions.page import SLOTS, Slot
from webui.services.forms import OVERRIDES, request_from_form
from webui.services.services import Services
from webui.ui.panels import build_panels
from webui.ui.widgets import NAMES, QUIET, InputAccordion, input_accordion, specs_by_path, tool, widget

SPECS = specs_by_path(GenerationRequest)


class ParameterColumn:
    """Places parameters and remembers where: a tab calls the pieces in the order it wants to show them.

    fields: dotted parameter path -> component, the form of `webui.services.forms`.
    """

    reuse_seed: gr.Button
    reuse_subseed: gr.Button
    refresh_refiner: gr.Button

    def __init__(self, services: Services, tab: str) -> None:
        """tab: the beginning of all element ids."""
        self.services = services
        self.tab = tab
        self.settings = services.settings.snapshot()
        self.checkpoints = services.checkpoints.titles()
        self.samplers = services.choices.names(Sampler)
        self.schedulers = [scheduler.label for scheduler in services.choices.all(Scheduler)]
        self.hires_upscalers = services.choices.hires_upscalers
        self.fields: dict[str, Component] = {}
        self.slots: list[Slot] = []

    def slot(self, name: Slot) -> None:
        """The end of one of A1111's sections: here stands what extensions put into it."""
        self.slots.append(name)
        build_panels(self, name)

    def place(self, path: str, elem_id: str, **options: Any) -> Component:
        """The component of a declared parameter; options are passed on to `widget`."""
        self.fields[path] = widget(SPECS[path], elem_id, **options)
        return self.fields[path]

    def sampler(self) -> None:
        with gr.Row(elem_id=f"sampler_selection_{self.tab}"):
            self.place("sampler", f"{self.tab}_sampling", choices=self.samplers)
            self.place("scheduler", f"{self.tab}_scheduler", choices=self.schedulers)
            self.place("steps", f"{self.tab}_steps")

    @contextmanager
    def accordions(self) -> Iterator[None]:
        with gr.Row(elem_id=f"{self.tab}_accordions", elem_classes=["accordions"]):
            yield

    def hires(self) -> InputAccordion:
        """Hires. fix; the header's extra place is for the resulting size."""
        tab = self.tab
        with input_accordion("Hires. fix", f"{tab}_hr", "txtimg_hr_finalres") as hires:
            self.fields["hires"] = hires.enabled
            with gr.Row(elem_id=f"{tab}_hires_fix_row1"):
                self.place("hires.upscaler", f"{tab}_hr_upscaler", choices=self.hires_upscalers)
                self.place("hires.steps", f"{tab}_hires_steps")
                self.place("hires.denoising_strength", f"{tab}_denoising_strength")
            with gr.Row(elem_id=f"{tab}_hires_fix_row2"):
                self.place("hires.scale", f"{tab}_hr_scale")
                self.place("hires.resize_width", f"{tab}_hr_resize_x")
                self.place("hires.resize_height", f"{tab}_hr_resize_y")
            with gr.Row(elem_id=f"{tab}_hires_fix_row3"):
                same = {"value": SAME_CHECKPOINT, "choices": [SAME_CHECKPOINT, *self.checkpoints]}
                self.place("hires.checkpoint", "hr_checkpoint", allow_custom_value=True, **same)
                self.place("hires.sampler", "hr_sampler", value=SAME_SAMPLER, choices=[SAME_SAMPLER, *self.samplers])
                same = {"value": SAME_SCHEDULER, "choices": [SAME_SCHEDULER, *self.schedulers]}
                self.place("hires.scheduler", "hr_scheduler", **same)
            with gr.Row(elem_id=f"{tab}_hires_fix_row4"):
                hint = "for the hires fix pass.\nLeave empty to use the same as in the first pass."
                prompt = {"lines": 3, "max_lines": 20, "elem_classes": ["prompt"], "show_label": False}
                self.place("hires.prompt", "hires_prompt", placeholder=f"Prompt {hint}", **prompt)
                self.place("hires.negative_prompt", "hires_neg_prompt", placeholder=f"Negative prompt {hint}", **prompt)
        return hires

    def refiner(self) -> None:
        with input_accordion("Refiner", f"{self.tab}_enable") as refiner:
            self.fields["refiner"] = refiner.enabled
            with gr.Row():
                titles = {"choices": list(self.checkpoints), "value": None, "allow_custom_value": True}
                self.place("refiner.checkpoint", f"{self.tab}_checkpoint", **titles)
                self.refresh_refiner = tool("🔄", f"{self.tab}_checkpoint_refresh")
                self.place("refiner.switch_at", f"{self.tab}_switch_at")

    @contextmanager
    def size(self) -> Iterator[None]:
        """Width and height, with the button that switches them; more buttons may be put beside it inside."""
        tab = self.tab
        with gr.Column(elem_id=f"{tab}_column_size", scale=4, min_width=160):
            self.place("width", f"{tab}_width")
            self.place("height", f"{tab}_height")
        with gr.Column(elem_id=f"{tab}_dimensions_row", elem_classes=["dimensions-tools"], scale=0, min_width=40):
            switch = tool("⇅", f"{tab}_res_switch_btn")
            yield
        sides = [self.fields["width"], self.fields["height"]]
        switch.click(None, sides, sides, js="(width, height) => [height, width]")

    def batch(self) -> None:
        with gr.Column(elem_id=f"{self.tab}_column_batch", scale=2, min_width=120):
            self.place("batch_count", f"{self.tab}_batch_count")
            self.place("batch_size", f"{self.tab}_batch_size")

    def seed(self, *, reuse: bool = True) -> None:
        """Seed, dice, reuse, and the extras under a checkbox. reuse: whether there is a gallery to take seeds from."""
        tab, shown = self.tab, True if reuse else "hidden"
        with gr.Row(elem_id=f"{tab}_seed_row"):
            self.place("seed", f"{tab}_seed", min_width=100, scale=4)
            dice = tool("🎲️", f"{tab}_random_seed")
            self.reuse_seed = tool("♻️", f"{tab}_reuse_seed", visible=shown)
            self.fields["variation"] = gr.Checkbox(
                False,
                label="Extra",
                elem_id=f"{tab}_subseed_show",
                container=False,
                scale=0,
                min_width=80,
                interactive=True,
            )
        with gr.Column(elem_id=f"{tab}_seed_extras"):
            with gr.Row(elem_id=f"{tab}_subseed_row"):
                self.place("variation.seed", f"{tab}_subseed", scale=2)
                dice_variation = tool("🎲️", f"{tab}_random_subseed")
                self.reuse_subseed = tool("♻️", f"{tab}_reuse_subseed", visible=shown)
                self.place("variation.strength", f"{tab}_subseed_strength", scale=2)
            with gr.Row(elem_id=f"{tab}_seed_resize_from_row"):
                self.place("variation.resize_from_width", f"{tab}_seed_resize_from_w")
                self.place("variation.resize_from_height", f"{tab}_seed_resize_from_h")
        dice.click(None, None, self.fields["seed"], js="() => '-1'")
        dice_variation.click(None, None, self.fields["variation.seed"], js="() => '-1'")

    def overrides(self) -> None:
        with gr.Row(elem_id=f"{self.tab}_override_settings_row"):
            self.fields[OVERRIDES] = gr.Dropdown(
                choices=[],
                value=[],
                label="Override settings",
                multiselect=True,
                allow_custom_value=True,
                elem_id=f"{self.tab}_override_settings",
                elem_classes=[NAMES],
                visible="hidden",
            )


class GenerationForm(ParameterColumn):
    """Everything that txt2img asks for as one column, for a tab of its own: prompts, sampler, size, seed and so on,
    with the panels of all extensions.
    """

    def __init__(self, services: Services, tab: str) -> None:
        super().__init__(services, tab)
        with gr.Column(elem_id=f"{tab}_settings"):
            self._lay_out()
        assert self.slots == list(SLOTS), "a section is missing"
        self.refresh_refiner.click(self._fresh_checkpoints, None, self.fields["refiner.checkpoint"], **QUIET)

    @property
    def inputs(self) -> set[Component]:
        return set(self.fields.values())

    def request(self, values: Mapping[Component, Any], user: str | None = None) -> GenerationRequest:
        """The request that the form means. values: by component. Raises: InvalidRequest."""
        form = {path: values[component] for path, component in self.fields.items()}
        settings = self.services.settings.snapshot()
        return request_from_form(form, settings, self.services.host.params, user=user)

    def _lay_out(self) -> None:
        prompt = {"lines": 3, "max_lines": 20, "elem_classes": ["prompt"]}
        self.place("prompt", f"{self.tab}_prompt", **prompt)
        self.place("negative_prompt", f"{self.tab}_neg_prompt", **prompt)
        self.place("styles", f"{self.tab}_styles", choices=[style.name for style in self.services.styles.all()])
        for slot in ("prompt", "image", "inpaint"):
            self.slot(slot)
        self.sampler()
        self.slot("sampler")
        with self.accordions():
            self.refiner()
            self.slot("accordions")
        self.slot("checkboxes")
        with gr.Row():
            with self.size():
                pass
            self.batch()
        self.slot("dimensions")
        self.place("cfg_scale", f"{self.tab}_cfg_scale")
        self.slot("cfg")
        self.slot("denoising")
        self.seed(reuse=False)
        self.slot("seed")
        self.slot("batch")
        self.overrides()
        self.slot("override_settings")
        with gr.Column(elem_id=f"{self.tab}_script_container"):
            self.slot("scripts")

    def _fresh_checkpoints(self) -> Any:
        self.services.checkpoints.refresh()
        return gr.Dropdown(choices=list(self.services.checkpoints.titles()))
