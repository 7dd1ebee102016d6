"""The Deforum tab: its settings by theme on the left, the job on the right."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import create_model

from webui.extensions.api import InvalidRequest, Params

from . import job
from .animation import scheduled
from .plots import plot_schedules
from .presets import PRESETS
from .settings import UNITS, ControlUnit, Settings
from .settings_files import dump_settings, load_settings, read_settings, write_settings

NAME = "deforum"
SECTIONS: dict[str, dict[str, str]] = {
    "Run": {
        "": "W H sampler steps seed batch_name motion_preview_mode tiling restore_faces seed_resize_from_w "
        "seed_resize_from_h original_arithmetic",
        "Resume": "resume_from_timestring resume_timestring",
    },
    "Keyframes": {
        "": "animation_mode border diffusion_cadence max_frames",
        "Strength, CFG and seed": "strength_schedule cfg_scale_schedule seed_behavior seed_iter_N seed_schedule "
        "enable_clipskip_scheduling clipskip_schedule pix2pix_img_cfg_scale_schedule",
        "SubSeed, steps, sampler, checkpoint": "enable_subseed_scheduling subseed_schedule subseed_strength_schedule "
        "enable_steps_scheduling steps_schedule enable_sampler_scheduling sampler_schedule "
        "enable_checkpoint_scheduling checkpoint_schedule enable_ddim_eta_scheduling ddim_eta_schedule "
        "enable_ancestral_eta_scheduling ancestral_eta_schedule",
        "Motion": "angle zoom translation_x translation_y translation_z transform_center_x transform_center_y "
        "rotation_3d_x rotation_3d_y rotation_3d_z enable_perspective_flip perspective_flip_theta "
        "perspective_flip_phi perspective_flip_gamma perspective_flip_fv",
        "Noise": "noise_type noise_schedule perlin_octaves perlin_persistence enable_noise_multiplier_scheduling "
        "noise_multiplier_schedule",
        "Coherence": "color_coherence color_force_grayscale legacy_colormatch color_coherence_image_path "
        "color_coherence_video_every_N_frames optical_flow_cadence cadence_flow_factor_schedule "
        "optical_flow_redo_generation redo_flow_factor_schedule diffusion_redo contrast_schedule reroll_blank_frames "
        "reroll_patience",
        "Anti Blur": "amount_schedule kernel_schedule sigma_schedule threshold_schedule",
        "Depth Warping & FOV": "use_depth_warping depth_algorithm save_depth_maps padding_mode sampling_mode "
        "aspect_ratio_schedule aspect_ratio_use_old_formula fov_schedule",
        "Guided Images": "use_looper init_images image_strength_schedule blendFactorMax blendFactorSlope "
        "tweening_frames_schedule color_correction_factor",
    },
    "Prompts": {
        "": "positive_prompts negative_prompts",
        "Composable masks": "mask_schedule use_noise_mask noise_mask_schedule",
    },
    "Init": {
        "Image": "use_init strength strength_0_no_init init_image",
        "Video": "video_init_path extract_from_frame extract_to_frame extract_nth_frame overwrite_extracted_frames "
        "use_mask_video video_mask_path",
        "Mask": "use_mask use_alpha_as_mask mask_file invert_mask overlay_mask fill full_res_mask "
        "full_res_mask_padding mask_overlay_blur mask_contrast_adjust mask_brightness_adjust",
        "Parseq": "parseq_manifest parseq_use_deltas parseq_non_schedule_overrides",
    },
    "ControlNet": {},
    "Hybrid Video": {
        "": "hybrid_generate_inputframes hybrid_composite hybrid_use_first_frame_as_init_image hybrid_use_init_image "
        "hybrid_motion hybrid_motion_use_prev_img hybrid_flow_method hybrid_flow_consistency "
        "hybrid_consistency_blur hybrid_flow_factor_schedule hybrid_comp_alpha_schedule hybrid_comp_mask_type "
        "hybrid_comp_mask_inverse hybrid_comp_mask_equalize hybrid_comp_mask_auto_contrast "
        "hybrid_comp_mask_blend_alpha_schedule hybrid_comp_mask_contrast_schedule "
        "hybrid_comp_mask_auto_contrast_cutoff_low_schedule hybrid_comp_mask_auto_contrast_cutoff_high_schedule",
    },
    "Output": {
        "": "skip_video_creation fps make_gif delete_imgs delete_input_frames add_soundtrack soundtrack_path",
        "Frames between, larger frames": "frame_interpolation_engine frame_interpolation_x_amount "
        "frame_interpolation_slow_mo_enabled frame_interpolation_slow_mo_amount frame_interpolation_keep_imgs "
        "frame_interpolation_use_upscaled r_upscale_video r_upscale_factor r_upscale_model r_upscale_keep_imgs",
    },
}
"""Tab -> heading -> parameters. Others keep what a loaded settings file says."""


UNIT_COLUMNS = {
    "enabled": "bool", "model": "str", "module": "str", "vid_path": "str", "weight": "str", "guidance_start": "str",
    "guidance_end": "str", "loopback_mode": "bool",
}  # fmt: skip
"""What the table of ControlNet units shows, and of which type; the rest is as the loaded settings file says."""
PROMPTS = {"positive_prompts": "animation_prompts_positive", "negative_prompts": "animation_prompts_negative"}
"""What settings files call them."""


@dataclass(frozen=True)
class Form:
    """The settings on the page. boxes: by name. others: a state of what a loaded file says beside them."""

    boxes: dict[str, Any]
    others: Any

    @property
    def inputs(self) -> set[Any]:
        return {*self.boxes.values(), self.others}

    def settings(self, values: Any) -> Settings:
        """values: by component. Raises: InvalidRequest."""
        given = {name: values[box] for name, box in self.boxes.items()}
        rest = {name: value for name, value in values[self.others].items() if name not in PROMPTS}
        given |= _units(given.pop("controlnet"))
        prompts = {key: given.pop(name) or "" for name, key in PROMPTS.items()}
        return read_settings({**rest, **given, **prompts}).settings


def build(page: Any) -> None:
    import gradio as gr

    with gr.Row():
        with gr.Column(scale=3):
            boxes, plots = _build_sections(page)
            form = Form(boxes, gr.State({}))
            several = gr.Textbox(
                label="Settings files to run one after the other, one a line",
                lines=2,
                elem_id=f"{NAME}_several",
            )
            _build_files(page.easel, form)
        with gr.Column(scale=2):

            def start(values: Any, job_id: str | None, user: str | None) -> None:
                places = [line.strip() for line in (values[several] or "").splitlines() if line.strip()]
                if places:
                    asked = [load_settings(_place(page.easel, place)).settings for place in places]
                else:
                    asked = [form.settings(values)]
                orders = [job.plan(page.easel, settings, later=place) for place, settings in enumerate(asked)]
                for place, order in enumerate(orders):
                    page.easel.jobs.submit(job.KIND, order, job_id=None if place else job_id)

            page.job_panel(NAME, start, {*form.inputs, several})
    _plot_when_changed(form.boxes, plots)


def _build_sections(page: Any) -> tuple[dict[str, Any], Any]:
    """Returns: the settings' components by name, and the place of the plots."""
    import gradio as gr

    boxes: dict[str, Any] = {}
    with gr.Tabs():
        for title, parts in SECTIONS.items():
            with gr.Tab(title):
                if title == "Prompts":
                    boxes["prompts"] = gr.Textbox(
                        json.dumps(Settings().prompts, indent=4),
                        label="Prompts",
                        lines=8,
                        elem_id=f"{NAME}_prompts",
                        info='A JSON object: {"frame": "prompt --neg negative prompt"}',
                    )
                if title == "ControlNet":
                    boxes["controlnet"] = gr.Dataframe(
                        _rows(Settings()),
                        headers=[ControlUnit.model_fields[name].json_schema_extra["label"] for name in UNIT_COLUMNS],
                        datatype=list(UNIT_COLUMNS.values()),
                        row_count=UNITS,
                        interactive=True,
                        elem_id=f"{NAME}_units",
                    )
                for heading, names in parts.items():
                    with gr.Accordion(heading, open=False) if heading else nullcontext():
                        boxes |= page.widgets(_part(names), NAME)
                if title == "Keyframes":
                    plots = gr.HTML(elem_id=f"{NAME}_plots")
    return boxes, plots


def _build_files(easel: Any, form: Form) -> None:
    """Presets, and settings files to save and load."""
    import gradio as gr

    with gr.Row():
        preset = gr.Dropdown(list(PRESETS), value=None, label="Preset", elem_id=f"{NAME}_preset")
        path = gr.Textbox("deforum_settings.txt", label="Settings file", elem_id=f"{NAME}_settings_path")
        save = gr.Button("Save settings", elem_id=f"{NAME}_save_settings")
        load = gr.Button("Load settings", elem_id=f"{NAME}_load_settings")
    told = gr.Markdown(elem_id=f"{NAME}_settings_told")

    def save_file(values: Any) -> str:
        try:
            target = _place(easel, values[path])
            target.write_text(dump_settings(write_settings(form.settings(values))), encoding="utf-8")
        except (InvalidRequest, OSError) as error:
            return f"Not saved: {error}"
        return f"Saved as {target}"

    def load_file(preset: str | None, place: str) -> list[Any]:
        try:
            found = read_settings(PRESETS[preset]) if preset else load_settings(_place(easel, place))
        except InvalidRequest as error:
            return [gr.skip() for _ in form.boxes] + [gr.skip(), f"Not loaded: {error}", None]
        kept = write_settings(found.settings)
        rest = {key: value for key, value in kept.items() if key not in form.boxes and key != "prompts"}
        ignored = f" Without a meaning here: {', '.join(found.ignored)}." if found.ignored else ""
        return [_shown(found.settings, name) for name in form.boxes] + [rest, f"Loaded.{ignored}", None]

    save.click(save_file, {*form.inputs, path}, told, api_visibility="private")
    shown = [*form.boxes.values(), form.others, told, preset]
    gr.on([load.click, preset.input], load_file, [preset, path], shown, api_visibility="private")


def _plot_when_changed(boxes: dict[str, Any], plots: Any) -> None:
    """Have the schedules drawn over the frames, and again whenever one of them changes."""
    import gradio as gr

    schedules = {name: boxes[name] for name in scheduled(Settings()) if name in boxes}

    def plot(values: Any) -> str:
        seed, frames = str(values[boxes["seed"]] or ""), values[boxes["max_frames"]]
        texts = {key: (box.label, values[box] or "") for key, box in schedules.items()}
        return plot_schedules(texts, int(frames or 1), int(seed) if seed.isdigit() else 0)

    plotted = [*schedules.values(), boxes["max_frames"]]
    gr.on(
        [box.change for box in plotted],
        plot,
        {*plotted, boxes["seed"]},
        plots,
        trigger_mode="always_last",
        api_visibility="private",
        show_progress="hidden",
    )


def _rows(settings: Settings) -> list[list[Any]]:
    return [[getattr(unit, name) for name in UNIT_COLUMNS] for unit in settings.controlnet]


def _units(rows: Any) -> dict[str, Any]:
    """The table's cells by their keys in settings files. rows: a frame of pandas, as Gradio gives it."""
    return {
        f"cn_{number}_{name}": bool(cell) if kind == "bool" else str(cell)
        for number, row in enumerate(rows.values.tolist()[:UNITS], 1)
        for (name, kind), cell in zip(UNIT_COLUMNS.items(), row, strict=True)
    }


def _part(names: str) -> type[Params]:
    """A group of some of the settings' parameters, for the page to lay out."""
    chosen = {name: (Settings.model_fields[name].annotation, Settings.model_fields[name]) for name in names.split()}
    return create_model("Part", __base__=Params, **chosen)  # type: ignore[call-overload, no-any-return]


def _shown(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if name == "controlnet":
        return _rows(settings)
    if name == "prompts":
        return json.dumps(value, indent=4, ensure_ascii=False)
    return str(value) if name == "seed" else value


def _place(easel: Any, place: str) -> Path:
    """Raises: InvalidRequest for a path that is none."""
    if not place.strip() or "\0" in place:
        raise InvalidRequest("Give the settings file a name.")
    path = Path(place.strip()).expanduser()
    return path if path.is_absolute() else Path(easel.paths.data) / path
