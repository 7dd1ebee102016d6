"""The units on the page, under the labels and element ids of sd-webui-controlnet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from .catalog import ControlModel, control_types
from .preprocessors.registry import CONTROL_TYPES, PREPROCESSORS

NO_MODEL = "None"


def build(panel: Any, models: Sequence[ControlModel]) -> None:
    """One closed accordion with a tab for each unit."""
    with gr.Accordion("ControlNet", open=False, elem_id=f"{panel.form}_controlnet"):
        count = panel.count("units")
        if count == 1:
            unit(panel, 0, models)
            return
        with gr.Tabs(elem_id=f"{panel.form}_controlnet_tabs"):
            for index in range(count):
                with gr.Tab(f"ControlNet Unit {index}", elem_classes=["cnet-unit-tab"], render_children=True):
                    unit(panel, index, models)


def unit(panel: Any, index: int, models: Sequence[ControlModel]) -> None:
    prefix = f"{panel.form}_controlnet_ControlNet-{index}"

    def place(name: str, part: str, **options: Any) -> Any:
        return panel.place(f"units.{index}.{name}", elem_id=f"{prefix}_{part}", **options)

    with gr.Row():
        place("image", "input_image")
        place("mask", "mask_image")
        place("effective_region_mask", "controlnet_effective_region_mask_image")
    with gr.Row():
        place("enabled", "controlnet_enable_checkbox")
        place("low_vram", "controlnet_low_vram_checkbox")
        place("pixel_perfect", "controlnet_pixel_perfect_checkbox")
        place("inpaint_crop_input_image", "controlnet_crop_input_image_checkbox")
        place("save_detected_map", "controlnet_save_detected_map_checkbox")
    kinds = control_types(models)
    chosen = gr.Radio(
        ["All", *CONTROL_TYPES], value="All", label="Control Type", elem_id=f"{prefix}_controlnet_type_filter_radio"
    )
    with gr.Row():
        module = panel.use(
            f"units.{index}.module",
            gr.Dropdown(
                [item.label for item in PREPROCESSORS],
                value="none",
                label="Preprocessor",
                elem_id=f"{prefix}_controlnet_preprocessor_dropdown",
            ),
        )
        model = panel.use(
            f"units.{index}.model",
            gr.Dropdown(
                [NO_MODEL, *(item.name for item in models)],
                value=NO_MODEL,
                label="Model",
                allow_custom_value=True,
                elem_id=f"{prefix}_controlnet_model_dropdown",
            ),
        )
    with gr.Row():
        place("weight", "controlnet_control_weight_slider")
        place("guidance_start", "controlnet_start_control_step_slider")
        place("guidance_end", "controlnet_ending_control_step_slider")
    with gr.Row():
        place("processor_res", "controlnet_preprocessor_resolution_slider")
        place("threshold_a", "controlnet_threshold_A_slider")
        place("threshold_b", "controlnet_threshold_B_slider")
    place("control_mode", "controlnet_control_mode_radio")
    place("resize_mode", "controlnet_resize_mode_radio")
    place("hr_option", "controlnet_hr_option_radio")
    place("advanced_weighting", "controlnet_advanced_weighting")

    def filtered(kind: str) -> tuple[Any, Any]:
        """The lists of a control type, and what is chosen in them at first."""
        found = kinds[kind]
        return (
            gr.Dropdown(choices=found["module_list"], value=found["default_option"]),
            gr.Dropdown(choices=found["model_list"], value=found["default_model"]),
        )

    chosen.input(filtered, chosen, [module, model], queue=False, show_progress="hidden")
