"""The units on the page, under the labels and element ids of sd-webui-controlnet.

What only the browser needs, such as buttons, check boxes that show a picture more, and the editors of poses and masks,
is built there by assets/controlnet.js, so that the page is light however many units there are. The server fills the
lists when the accordion is opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.processing_utils import save_bytes_to_cache

from webui.extensions.api import InvalidRequest, WebuiError

from .catalog import control_types, model_names, refresh
from .preprocessors.registry import Preprocessor, Slider
from .preprocessors.weights import with_weights
from .presets import FILE, KEPT, PresetStore
from .previews import KIND, Preview, Previewed, read_poses
from .units import IMAGE_PROMPTS, INPUT_MODES, NO_MODEL, Unit, find_preprocessor

SCRIPT = "window.easelControlNet"
QUIET: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
ALL = "All"
WHOLE_FORMS = ("txt2img", "img2img")
WIDEST = (-1, 2048, 0.01)
"""Bounds of a slider that the preprocessor doesn't have; -1 means its default."""
SHAPED = ("model", "control_mode", "weight_type", "composition_weight")
"""What else a preprocessor may have no use for."""
SLIDERS = ("processor_res", "threshold_a", "threshold_b")
PICTURES = ("image", "mask", "effective_region_mask")
WITHOUT_CONTROL_MODE = ("ip-adapter", "revision", "clip_vision", "instant_id")
"""Beginnings of the ids of preprocessors to which control modes mean nothing."""
NO_PICTURE = "There is no picture to look at; load one into the unit first."
Updates = dict[Component, Any]


def build(panel: Any) -> None:
    """One closed accordion with a tab for each unit."""
    UnitsPanel(panel)


class UnitsPanel:
    """The units of one form. units: of each its components, by the name of the parameter, and the "type"."""

    def __init__(self, panel: Any) -> None:
        self.panel = panel
        self.easel = panel.easel
        self.presets = PresetStore(self.easel.paths.data / FILE)
        name = f"{panel.form}_controlnet"
        with gr.Accordion("ControlNet", open=False, elem_id=name, elem_classes=["cnet"]) as accordion:
            self.command = gr.Textbox(elem_id=f"{name}_command", visible="hidden")
            self.answer = gr.Textbox(elem_id=f"{name}_answer", visible="hidden")
            self.act_button = gr.Button("Act", elem_id=f"{name}_act", visible="hidden")
            self.put_button = gr.Button("Put", elem_id=f"{name}_put", visible="hidden")
            self.size_button = gr.Button("Size", elem_id=f"{name}_size", visible="hidden")
            self.units = self._lay_out(name, panel.count("units"))
            if self.is_whole:
                with gr.Accordion("Batch Options", open=False, elem_id=f"{name}_batch_options"):
                    panel.place("batch_option", elem_id=f"{name}_batch_option_radio", show_label=False)
                    panel.place("style_align", elem_id=f"{name}_style_align_checkbox")
                self.previewed = gr.File(elem_id=f"{name}_previewed", visible="hidden")
                self.jobs = panel.jobs("controlnet_preview")
                self.jobs.place_buttons("Run preprocessor", interrupt="Stop preprocessor")
                self.jobs.place_log()
        self._wire(accordion)
        if self.is_whole:
            self._wire_previews()

    @property
    def is_whole(self) -> bool:
        """Whether there are previews and batches; the forms of films have frames in their place."""
        return self.panel.form in WHOLE_FORMS

    # Layout

    def _lay_out(self, name: str, count: int) -> list[dict[str, Component]]:
        if count == 1:
            return [self._unit(0)]
        units = []
        with gr.Tabs(elem_id=f"{name}_tabs", elem_classes=["cnet-tabs"]):
            for index in range(count):
                with gr.Tab(
                    f"ControlNet Unit {index}", id=f"unit_{index}", elem_classes=["cnet-unit-tab"], render_children=True
                ):
                    units.append(self._unit(index))
        return units

    def _unit(self, index: int) -> dict[str, Component]:
        panel = self.panel
        prefix = f"{panel.form}_controlnet_ControlNet-{index}"
        unit: dict[str, Component] = {}

        def place(name: str, part: str, **options: Any) -> None:
            unit[name] = panel.place(f"units.{index}.{name}", elem_id=f"{prefix}_{part}", **options)

        def use(name: str, component: Component) -> None:
            unit[name] = panel.use(f"units.{index}.{name}", component)

        settings = self.easel.settings.snapshot()

        def marked(name: str) -> dict[str, Any]:
            return {"elem_classes": [f"cnet-{name}"]}

        with gr.Column(elem_id=f"{prefix}_unit", elem_classes=["cnet-unit"]):
            if self.is_whole:
                inputs = list(zip(("Single Image", "Batch", "Multi-Inputs"), INPUT_MODES, strict=True))
                place("input_mode", "controlnet_input_mode", choices=inputs, show_label=False, **marked("mode"))
            with gr.Row(elem_classes=["cnet-pictures"]):
                sources = ["upload", "webcam", "clipboard"]
                place("image", "input_image", sources=sources, **marked("image"))
                place("mask", "mask_image", **marked("mask"))
                place("effective_region_mask", "controlnet_effective_region_mask_image", **marked("region"))
            if self.is_whole:
                place("batch_dir", "controlnet_batch_input_dir", max_lines=1, **marked("batch"))
                place("images", "controlnet_multi_input_gallery", height=240, **marked("several"))
            with gr.Row(elem_classes=["cnet-checks"]):
                place("enabled", "controlnet_enable_checkbox")
                place("low_vram", "controlnet_low_vram_checkbox")
                perfect = bool(settings["controlnet_pixel_perfect"])
                place("pixel_perfect", "controlnet_pixel_perfect_checkbox", value=perfect, **marked("perfect"))
                place("inpaint_crop_input_image", "controlnet_crop_input_image_checkbox", **marked("crop"))
                place("save_detected_map", "controlnet_save_detected_map_checkbox")
                if self.is_whole:
                    place("loopback", "controlnet_automatically_send_generated_images_checkbox", **marked("batch"))
            as_list = settings["controlnet_control_type_dropdown"]
            kinds: Any = gr.Dropdown if as_list else gr.Radio
            part = "dropdown" if as_list else "radio"
            unit["type"] = kinds(
                [ALL],
                value=ALL,
                label="Control Type",
                interactive=True,
                elem_id=f"{prefix}_controlnet_type_filter_{part}",
                **marked("type"),
            )
            with gr.Row(elem_classes=["cnet-choice"]):
                options: dict[str, Any] = {"allow_custom_value": True, "interactive": True, "elem_classes": ["names"]}
                name = f"{prefix}_controlnet_preprocessor_dropdown"
                use("module", gr.Dropdown(["none"], value="none", label="Preprocessor", elem_id=name, **options))
                name = f"{prefix}_controlnet_model_dropdown"
                use("model", gr.Dropdown([NO_MODEL], value=NO_MODEL, label="Model", elem_id=name, **options))
            with gr.Row():
                place("weight", "controlnet_control_weight_slider")
                place("guidance_start", "controlnet_start_control_step_slider")
                place("guidance_end", "controlnet_ending_control_step_slider")
            with gr.Row():
                for name, part in zip(SLIDERS, ("preprocessor_resolution", "threshold_A", "threshold_B"), strict=True):
                    place(name, f"controlnet_{part}_slider", visible="hidden", **marked(name), **_bounds(None))
            place("control_mode", "controlnet_control_mode_radio")
            place("resize_mode", "controlnet_resize_mode_radio", **marked("resize"))
            place("hr_option", "controlnet_hr_option_radio", **marked("hires"))
            with gr.Row():
                image_prompt: dict[str, Any] = {"visible": "hidden"}
                place("weight_type", "controlnet_weight_type_dropdown", **image_prompt)
                place("composition_weight", "controlnet_composition_weight_slider", **image_prompt)
            with gr.Row():
                place("advanced_weighting", "controlnet_advanced_weighting")
                place("union_control_type", "controlnet_union_control_type_dropdown")
        return unit

    # Events: few, each for all units, since every one of them is part of the page

    def _wire(self, accordion: gr.Accordion) -> None:
        units, name = self.units, self.panel.form
        modules = [unit["module"] for unit in units]
        types = [unit["type"] for unit in units]
        enabled = [unit["enabled"] for unit in units]
        sliders = [unit[slider] for unit in units for slider in SLIDERS]
        shaped = [*sliders, *(unit[part] for unit in units for part in SHAPED)]
        lists = [*modules, *types, *(unit["model"] for unit in units)]
        kept = [unit[part] for unit in units for part in KEPT]
        pictures = [unit[part] for unit in units for part in PICTURES]
        latest: dict[str, Any] = {"trigger_mode": "always_last", **QUIET}
        script = SCRIPT

        gr.on(
            [kind.input for kind in types], self.choose_type, {*types}, list(dict.fromkeys([*lists, *shaped])), **latest
        )
        gr.on([module.input for module in modules], self.choose_module, {*modules}, shaped, **latest)
        gr.on([module.change for module in modules], self.describe, {*modules}, shaped, **latest)
        gr.on([unit["image"].upload for unit in units], self.enable, None, enabled, **QUIET)
        marks = [event for unit in units for event in (unit["enabled"].change, unit["type"].change)]
        marks += [unit["module"].change for unit in units]
        told = [*enabled, *types, *modules]
        gr.on(marks, None, told, None, js=f"(...values) => {script}?.mark('{name}', values)", **QUIET)

        accordion.expand(self.open, {*types}, [*lists, self.answer], **QUIET).success(
            None, self.answer, None, js=f"(answer) => {script}.answered('{name}', answer)"
        )
        acted = self.act_button.click(
            self.act,
            {self.command, *types, *kept},
            [self.answer, *dict.fromkeys([*lists, *kept])],
            trigger_mode="multiple",
            **QUIET,
        )
        acted.success(None, self.answer, None, js=f"(answer) => {script}.answered('{name}', answer)")
        put = f"(...values) => {script}.put('{name}', values)"
        self.put_button.click(None, pictures, pictures, js=put, trigger_mode="multiple", **QUIET)
        size = [self.panel.field("width"), self.panel.field("height")]
        self.size_button.click(None, size, size, js=f"(...values) => {script}.size('{name}', values)", **QUIET)

    def _wire_previews(self) -> None:
        units, name, script = self.units, self.panel.form, SCRIPT
        size = [self.panel.field("width"), self.panel.field("height")]
        by_unit = {str(index): [unit["image"], unit["mask"]] for index, unit in enumerate(units)}
        parts = ("module", "pixel_perfect", "resize_mode", *SLIDERS)
        inputs = [self.command, *size, *(unit[part] for unit in units for part in parts)]
        inputs += [item for pair in by_unit.values() for item in pair]
        mode = f"{script}.asking('{name}')"
        self.jobs.submits(self.jobs.generate, self.preview, inputs, by_mode=by_unit, mode=mode)
        shown = self.jobs.shows(self.show_preview, [self.previewed, self.answer, self.jobs.log])
        done = f"(file, answer) => {script}.previewed('{name}', file, answer)"
        shown.success(None, [self.previewed, self.answer], None, js=done)

    # Lists

    def open(self, values: Updates) -> Updates:
        """Fill the lists, and tell the names of the presets."""
        return {**self._lists(values), self.answer: self._told()}

    def _lists(self, values: Mapping[Component, Any]) -> Updates:
        kinds = control_types(model_names(self.easel))
        updates: Updates = {}
        for unit in self.units:
            found = kinds.get(values[unit["type"]], kinds[ALL])
            updates[unit["type"]] = gr.update(choices=list(kinds))
            updates[unit["module"]] = gr.update(choices=found["module_list"])
            updates[unit["model"]] = gr.update(choices=found["model_list"])
        return updates

    def choose_type(self, values: Updates, event: gr.EventData) -> Updates:
        """The lists of a control type, and what is chosen in them at first."""
        unit = self._of(event, "type")
        kinds = control_types(model_names(self.easel))
        found = kinds.get(values[unit["type"]], kinds[ALL])
        chosen = str(found["default_option"])
        updates = _shape(unit, find_preprocessor(chosen), {})
        updates[unit["module"]] = gr.update(choices=found["module_list"], value=chosen)
        updates[unit["model"]] |= gr.update(choices=found["model_list"], value=found["default_model"])
        return updates

    # A preprocessor's own sliders

    def choose_module(self, values: Updates, event: gr.EventData) -> Updates:
        """The user has chosen a preprocessor: its sliders, at their defaults."""
        unit = self._of(event, "module")
        return _shape(unit, _named(values[unit["module"]]), {})

    def describe(self, values: Updates) -> Updates:
        """Preprocessors were set, by hand or by a text that was pasted: their sliders, whose values came with them."""
        updates: Updates = {}
        for unit in self.units:
            updates |= _shape(unit, _named(values[unit["module"]]), None)
        return updates

    def enable(self, event: gr.EventData) -> Updates:
        """A picture was loaded into a unit."""
        return {self._of(event, "image")["enabled"]: True}

    def _of(self, event: gr.EventData, name: str) -> dict[str, Component]:
        """The unit whose component this is an event of; a component that was updated has another number."""
        assert event.target is not None
        return next(
            unit for unit in self.units if unit[name].elem_id == event.target.elem_id
        )  # ids change with updates

    # Presets and the button that looks for models

    def act(self, values: Updates) -> Updates:
        """What the page's own buttons ask for, as JSON in `command`. The answer tells what came of it."""
        try:
            asked = json.loads(values[self.command] or "{}")
            return self._acted(asked, values)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return {self.answer: self._told("The page asked for something unknown; reload it.")}
        except WebuiError as error:
            return {self.answer: self._told(str(error))}

    def _acted(self, asked: Mapping[str, Any], values: Updates) -> Updates:
        if asked["do"] == "refresh":
            refresh(self.easel)
            return {**self._lists(values), self.answer: self._told()}
        unit = self.units[int(asked["unit"])]
        if asked["do"] == "ready":  # a finished map was put into it
            return {unit["module"]: "none", **_shape(unit, find_preprocessor("none"), {}), self.answer: self._told()}
        name = str(asked["name"])
        if asked["do"] == "save":
            kept = Unit.checked(**{part: _value(part, values[unit[part]]) for part in KEPT})
            return {self.answer: self._told(chosen=self.presets.save(name, kept))}
        if asked["do"] == "delete":
            self.presets.delete(name)
            return {self.answer: self._told()}
        loaded = self.presets.load(name)
        updates = _shape(unit, _named(loaded["module"]), loaded)
        for part in KEPT:
            if part not in SLIDERS:
                updates[unit[part]] = updates.get(unit[part], {}) | gr.update(value=loaded[part])
        return {**updates, self.answer: self._told(chosen=name)}

    def _told(self, problem: str = "", chosen: str = "") -> str:
        try:
            names = self.presets.names()
        except WebuiError as error:
            names, problem = [], problem or str(error)
        return json.dumps({"presets": names, "chosen": chosen, "problem": problem})

    # Previews

    def preview(self, values: Updates, job_id: str | None, user: str | None) -> None:
        """Submit the job that makes a map of a unit's picture, or of a pose. Raises: WebuiError."""
        try:
            asked = json.loads(values[self.command] or "{}")
            number, poses = int(asked["unit"]), str(asked.get("poses") or "")
            unit = self.units[number]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise InvalidRequest("The page asked for the preview of no unit; reload it.") from None
        size = [int(values[self.panel.field(side)] or 0) for side in ("width", "height")]
        if poses:
            read_poses(poses)
            self.easel.jobs.submit(KIND, Preview(Unit(), number, *size, poses), job_id=job_id)
            return
        parts = ("module", "pixel_perfect", "resize_mode", *SLIDERS)
        given = {part: _value(part, values[unit[part]]) for part in parts}
        if not values[unit["image"]]:
            raise InvalidRequest(NO_PICTURE)
        files = {part: _content(values[unit[part]]) for part in ("image", "mask")}
        wanted = Unit.checked(**given, **files)
        wanted.preprocessor.require_runnable()
        self.easel.jobs.submit(KIND, Preview(with_weights(wanted, self.easel), number, *size), job_id=job_id)

    def show_preview(self, job_id: str) -> tuple[Any, str, Any]:
        """The map as a file, and of which unit it is; or a sentence."""
        try:
            made = self.easel.jobs.result(job_id)
            assert isinstance(made, Previewed)
        except WebuiError as error:
            return None, json.dumps({"problem": str(error)}), _sentence(error)
        if not made.picture:
            return None, json.dumps({"unit": made.number}), ""
        file = save_bytes_to_cache(made.picture, "control map.png", self.previewed.GRADIO_CACHE)
        return file, json.dumps({"unit": made.number, "poses": made.poses}), ""


def _shape(
    unit: Mapping[str, Component], preprocessor: Preprocessor | None, known: Mapping[str, Any] | None
) -> Updates:
    """A unit's sliders as a preprocessor has them, and what else it has a use for.

    known: values for the sliders that they suit, the others get their defaults; None leaves the values alone.
    """
    if preprocessor is None:  # a name that none has: told when the job is submitted
        own: Sequence[Slider | None] = (None, None, None)
    else:
        resolution = preprocessor.resolution if preprocessor.id != "none" else None
        own = (resolution, preprocessor.a, preprocessor.b)
    updates: Updates = {}
    for name, slider in zip(SLIDERS, own, strict=True):
        shown: Any = "hidden" if slider is None else True
        updates[unit[name]] = gr.update(label=slider.name if slider else "None", visible=shown, **_bounds(slider))
        if known is not None:
            value = -1 if slider is None else slider.admitted(known.get(name, -1))
            updates[unit[name]] |= gr.update(value=value)
    wants_model = preprocessor is None or not preprocessor.model_free
    has_mode = preprocessor is None or not preprocessor.id.startswith(WITHOUT_CONTROL_MODE)
    reads_picture = preprocessor is not None and preprocessor.id in IMAGE_PROMPTS
    shown_parts = (wants_model, has_mode, reads_picture, reads_picture)
    updates |= {
        unit[part]: gr.update(visible=True if shown else "hidden")
        for part, shown in zip(SHAPED, shown_parts, strict=True)
    }
    return updates


def _bounds(slider: Slider | None) -> dict[str, float]:
    low, high, step = (slider.minimum, slider.maximum, slider.step) if slider else WIDEST
    return {"minimum": low, "maximum": high, "step": step}


def _named(name: str | None) -> Preprocessor | None:
    try:
        return find_preprocessor(name or "none")
    except InvalidRequest:
        return None


def _value(name: str, value: Any) -> Any:
    """A component's value as its parameter has it: a field that was emptied is at its default."""
    return Unit.model_fields[name].default if value is None else value


def _content(path: str | None) -> bytes | None:
    """Raises: InvalidRequest when the file is gone."""
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        raise InvalidRequest("The picture is no longer on the server; load it again.") from None


def _sentence(error: WebuiError) -> str:
    import html

    return f'<p class="error">{html.escape(str(error))}</p>'
