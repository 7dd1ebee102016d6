"""The column of generation parameters: A1111's order, one component a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.choices import (
    IMAGE_UPSCALERS,
    LATENT_UPSCALERS,
    SAME_CHECKPOINT,
    SAME_SAMPLER,
    SAME_SCHEDULER,
    SAMPLERS,
    SCHEDULERS,
)
from webui.core.params import Params
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.desk.forms import EXTENSIONS, OVERRIDES
from webui.ui.widgets import input_accordion, specs_by_path, tool, widget

SAMPLER_NAMES = [sampler.name for sampler in SAMPLERS]
SCHEDULER_LABELS = [scheduler.label for scheduler in SCHEDULERS]
SPECS = specs_by_path(GenerationRequest)


@dataclass(frozen=True)
class GenerationColumn:
    """fields: dotted parameter path -> component, the form of `webui.desk.forms`."""

    fields: dict[str, Component]
    reuse_seed: gr.Button
    reuse_subseed: gr.Button
    refresh_refiner: gr.Button
    seed_extra: gr.Checkbox


def build_generation(
    tab: str, settings: Settings, checkpoints: Sequence[str], groups: Sequence[type[Params]]
) -> GenerationColumn:
    """checkpoints: titles for the hires and refiner lists. groups: the extensions' parameters, shown last."""
    fields: dict[str, Component] = {}

    def place(path: str, elem_id: str, **options: Any) -> Component:
        fields[path] = widget(SPECS[path], elem_id, **options)
        return fields[path]

    with gr.Row(elem_id=f"sampler_selection_{tab}"):
        place("sampler", f"{tab}_sampling", choices=SAMPLER_NAMES)
        place("scheduler", f"{tab}_scheduler", choices=SCHEDULER_LABELS)
        place("steps", f"{tab}_steps")
    with gr.Row(elem_id=f"{tab}_accordions", elem_classes=["accordions"]):
        with input_accordion("Hires. fix", f"{tab}_hr", "txtimg_hr_finalres") as hires:
            fields["hires"] = hires.enabled
            with gr.Row(elem_id=f"{tab}_hires_fix_row1"):
                place("hires.upscaler", f"{tab}_hr_upscaler", choices=[*LATENT_UPSCALERS, *IMAGE_UPSCALERS])
                place("hires.steps", f"{tab}_hires_steps")
                place("hires.denoising_strength", f"{tab}_denoising_strength")
            with gr.Row(elem_id=f"{tab}_hires_fix_row2"):
                place("hires.scale", f"{tab}_hr_scale")
                place("hires.resize_width", f"{tab}_hr_resize_x")
                place("hires.resize_height", f"{tab}_hr_resize_y")
            with gr.Row(elem_id=f"{tab}_hires_fix_row3", visible=settings["hires_fix_show_sampler"]):
                same = {"value": SAME_CHECKPOINT, "choices": [SAME_CHECKPOINT, *checkpoints]}
                place("hires.checkpoint", "hr_checkpoint", allow_custom_value=True, **same)
                place("hires.sampler", "hr_sampler", value=SAME_SAMPLER, choices=[SAME_SAMPLER, *SAMPLER_NAMES])
                same = {"value": SAME_SCHEDULER, "choices": [SAME_SCHEDULER, *SCHEDULER_LABELS]}
                place("hires.scheduler", "hr_scheduler", **same)
            with gr.Row(elem_id=f"{tab}_hires_fix_row4", visible=settings["hires_fix_show_prompts"]):
                hint = "for the hires fix pass.\nLeave empty to use the same as in the first pass."
                prompt = {"lines": 3, "max_lines": 20, "elem_classes": ["prompt"], "show_label": False}
                place("hires.prompt", "hires_prompt", placeholder=f"Prompt {hint}", **prompt)
                place("hires.negative_prompt", "hires_neg_prompt", placeholder=f"Negative prompt {hint}", **prompt)
        with input_accordion("Refiner", f"{tab}_enable") as refiner:
            fields["refiner"] = refiner.enabled
            with gr.Row():
                titles = {"choices": list(checkpoints), "value": None, "allow_custom_value": True}
                place("refiner.checkpoint", f"{tab}_checkpoint", **titles)
                refresh_refiner = tool("🔄", f"{tab}_checkpoint_refresh")
                place("refiner.switch_at", f"{tab}_switch_at")
    with gr.Row():
        with gr.Column(elem_id=f"{tab}_column_size", scale=4):
            place("width", f"{tab}_width")
            place("height", f"{tab}_height")
        with gr.Column(elem_id=f"{tab}_dimensions_row", elem_classes=["dimensions-tools"], scale=0, min_width=40):
            switch = tool("⇅", f"{tab}_res_switch_btn")
        with gr.Column(elem_id=f"{tab}_column_batch", scale=2, min_width=120):
            place("batch_count", f"{tab}_batch_count")
            place("batch_size", f"{tab}_batch_size")
    place("cfg_scale", f"{tab}_cfg_scale")
    with gr.Row(elem_id=f"{tab}_seed_row"):
        place("seed", f"{tab}_seed", min_width=100, scale=4)
        dice = tool("🎲️", f"{tab}_random_seed")
        reuse = tool("♻️", f"{tab}_reuse_seed")
        extra = gr.Checkbox(
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
            place("variation.seed", f"{tab}_subseed", scale=2)
            dice_variation = tool("🎲️", f"{tab}_random_subseed")
            reuse_variation = tool("♻️", f"{tab}_reuse_subseed")
            place("variation.strength", f"{tab}_subseed_strength", scale=2)
        with gr.Row(elem_id=f"{tab}_seed_resize_from_row"):
            place("variation.resize_from_width", f"{tab}_seed_resize_from_w")
            place("variation.resize_from_height", f"{tab}_seed_resize_from_h")
    with gr.Row(elem_id=f"{tab}_override_settings_row"):
        fields[OVERRIDES] = gr.Dropdown(
            choices=[],
            value=[],
            label="Override settings",
            multiselect=True,
            allow_custom_value=True,
            elem_id=f"{tab}_override_settings",
            visible="hidden",
        )
    with gr.Column(elem_id=f"{tab}_script_container"):
        for group in groups:
            fields |= _extension_panel(tab, group)
        gr.Dropdown(
            choices=["None"],
            value="None",
            label="Script (none installed yet)",
            elem_id="script_list",
            interactive=True,
        )

    dice.click(None, None, fields["seed"], js="() => -1")
    dice_variation.click(None, None, fields["variation.seed"], js="() => -1")
    size = [fields["width"], fields["height"]]
    switch.click(None, size, size, js="(width, height) => [height, width]")
    sizes = [*size, *(fields[f"hires.{name}"] for name in ("scale", "resize_width", "resize_height"))]
    changes = [component.change for component in (*sizes, fields["hires"])]
    text = "(...sizes) => window.easel?.hiresText(...sizes) ?? ''"
    gr.on(changes, None, sizes, hires.extra, js=text, show_progress="hidden")
    return GenerationColumn(fields, reuse, reuse_variation, refresh_refiner, extra)


def _extension_panel(tab: str, group: type[Params]) -> dict[str, Component]:
    """One closed accordion with the group's parameters."""
    title = (group.__doc__ or group.__name__).strip().splitlines()[0].rstrip(".")
    fields: dict[str, Component] = {}
    with gr.Accordion(title, open=False, elem_id=f"{tab}_extension_{group.__name__}"):
        for spec in group.specs():
            elem_id = f"{tab}_{group.__name__}_{spec.dotted.replace('.', '_')}"
            fields[f"{EXTENSIONS}.{group.__name__}.{spec.dotted}"] = widget(spec, elem_id)
    return fields
