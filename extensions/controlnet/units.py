"""What a unit is asked: its parameters, what API clients may send for them, and what a picture's text tells of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from webui.extensions.api import InvalidRequest, Params, group_list, param, picture

from .curves import Curve, is_curve, read_curves, weight_at
from .preprocessors.registry import PREPROCESSORS, Preprocessor

RESIZE_MODES = ("Just Resize", "Crop and Resize", "Resize and Fill")
CONTROL_MODES = ("Balanced", "My prompt is more important", "ControlNet is more important")
HIRES_OPTIONS = ("Both", "Low res only", "High res only")
UNION_TYPES = (
    "Unknown", "OpenPose", "Depth", "Soft Edge", "Hard Edge", "Normal Map", "Segmentation", "Tile", "Inpaint",
)  # fmt: skip
UNKNOWN = UNION_TYPES[0]
WEIGHT_TYPES = (
    "normal", "ease in", "ease out", "ease in-out", "reverse in-out", "weak input", "weak output", "weak middle",
    "strong middle", "style transfer", "composition", "strong style transfer", "style and composition",
    "strong style and composition",
)  # fmt: skip
BATCH_OPTIONS = (
    "All ControlNet units for all images in a batch", "Each ControlNet unit for each image in a batch",
)  # fmt: skip
FOR_ALL, FOR_EACH = BATCH_OPTIONS
BATCH_OPTION_KEY, STYLE_ALIGN_KEY = "ControlNet batch option", "ControlNet StyleAlign"
INPUT_MODES = ("simple", "batch", "merge")
SIMPLE, BATCH, MERGE = INPUT_MODES
"""One picture; one for each turn of a batch; several at once."""
BALANCED, PROMPT_FIRST, CONTROL_FIRST = CONTROL_MODES
NO_MODEL = "None"

OLD_RESIZE_MODES = {
    "Inner Fit (Scale to Fit)": "Crop and Resize",
    "Scale to Fit (Inner Fit)": "Crop and Resize",
    "Outer Fit (Shrink to Fit)": "Resize and Fill",
    "Envelope (Outer Fit)": "Resize and Fill",
    0: "Just Resize",
    1: "Crop and Resize",
    2: "Resize and Fill",
    3: "Just Resize",
}
OLD_NAMES = {"input_image": "image", "mask_image": "mask", "lowvram": "low_vram", "guidance": "guidance_end"}
OWN_NAMES = ("file", "batch_files", "weights_at", "encoders", "turns", "film", "film_masks", "frames", "clip")
"""What no client may send: it is found when the job is submitted."""
MOST_UNITS = 10
IMAGE_PROMPTS = ("ip-adapter-auto", "ip-adapter_clip_sd15", "ip-adapter_clip_sdxl", "ip-adapter_clip_sdxl_plus_vith")
"""Preprocessors that make no map: an IP-Adapter reads the picture by CLIP."""
HIDDEN = 0.5
"""What the text tells of a slider that the preprocessor doesn't have."""


class Unit(Params):
    """One picture that steers what is generated."""

    forgiving: ClassVar[bool] = True

    enabled: bool = param(False, label="Enable")
    low_vram: bool = param(False, label="Low VRAM")
    pixel_perfect: bool = param(False, label="Pixel Perfect")
    module: str = param("none", label="Preprocessor", max_length=200)
    model: str = param(NO_MODEL, label="Model", max_length=1000)
    weight: float = param(1.0, label="Control Weight", ge=0, le=2, step=0.05)
    guidance_start: float = param(0.0, label="Starting Control Step", ge=0, le=1, step=0.01)
    guidance_end: float = param(1.0, label="Ending Control Step", ge=0, le=1, step=0.01)
    processor_res: float = param(-1, label="Preprocessor Resolution", slider=(-1, 2048, 1))
    threshold_a: float = param(-1, label="Threshold A", slider=(-1, 255, 0.01))
    threshold_b: float = param(-1, label="Threshold B", slider=(-1, 255, 0.01))
    control_mode: str = param(BALANCED, label="Control Mode", choices=CONTROL_MODES, kind="radio")
    resize_mode: str = param("Crop and Resize", label="Resize Mode", choices=RESIZE_MODES, kind="radio")
    hr_option: str = param("Both", label="Hires-Fix Option", choices=HIRES_OPTIONS, kind="radio")
    inpaint_crop_input_image: bool = param(True, label="Crop input image based on A1111 mask")
    save_detected_map: bool = param(True, label="Show the detected map")
    advanced_weighting: str = param("", label="Weights by injection, or by step (0.2@0.1)", max_length=1000)
    union_control_type: str = param(UNKNOWN, label="Union control type", choices=UNION_TYPES)
    weight_type: str = param(WEIGHT_TYPES[0], label="Weight Type", choices=WEIGHT_TYPES)
    composition_weight: float = param(1.0, label="Composition Weight", ge=0, le=2, step=0.05)
    image: bytes | None = picture(label="Image")
    mask: bytes | None = picture(label="Mask")
    effective_region_mask: bytes | None = picture(label="Effective Region Mask")
    input_mode: str = param(SIMPLE, label="Input", choices=INPUT_MODES, kind="radio")
    images: tuple[bytes, ...] = picture(label="Images", several=True)
    batch_dir: str = param("", label="Input Directory", max_length=1000)
    loopback: bool = param(False, label="[Batch Loopback]")
    file: str = ""
    """Where the model lies; written when the job is submitted."""
    encoders: tuple[str, ...] = ()
    """Where image encoders for IP-Adapters may lie; written when the job is submitted."""
    batch_files: tuple[str, ...] = ()
    """The pictures of a batch in a folder of the server, one a turn; written when the job is submitted."""
    film: str = ""
    """A video or a folder of pictures whose frames are those of a clip; written when the job is submitted."""
    film_masks: str = ""
    """The same of masks, for preprocessors that read one."""
    frames: tuple[bytes, ...] = ()
    """A picture for each frame of a clip; written when the job is submitted."""
    weights_at: str = ""
    """Where the files of the preprocessor's network lie, one path a line; written when the job is submitted."""

    @classmethod
    def from_api(cls, args: list[Any] | dict[str, Any]) -> Mapping[str, Any]:
        if isinstance(args, list):
            raise InvalidRequest("A ControlNet unit is an object of its values, not a list.")
        values = {OLD_NAMES.get(name, name): value for name, value in args.items() if name not in OWN_NAMES}
        values = {name: value for name, value in values.items() if value is not None}
        if "batch_images" in values:
            given = values.pop("batch_images")
            values |= {"batch_dir": given} if isinstance(given, str) else {"images": given}
        if "image" in values:
            values |= _pictures(values.pop("image"))
        mode = values.get("resize_mode")
        if isinstance(mode, int | str) and mode in OLD_RESIZE_MODES:
            values["resize_mode"] = OLD_RESIZE_MODES[mode]
        control = values.get("control_mode")
        if isinstance(control, int) and 0 <= control < len(CONTROL_MODES):
            values["control_mode"] = CONTROL_MODES[control]
        weights = values.get("advanced_weighting")
        if isinstance(weights, list):
            values["advanced_weighting"] = ", ".join(str(weight) for weight in weights)
        return values

    @property
    def preprocessor(self) -> Preprocessor:
        """Raises: InvalidRequest for a name that none has."""
        return find_preprocessor(self.module)

    @property
    def is_image_prompt(self) -> bool:
        return self.preprocessor.id in IMAGE_PROMPTS

    @property
    def resolution(self) -> float:
        preprocessor = self.preprocessor
        if preprocessor.resolution is None:
            return preprocessor.fixed_resolution or HIDDEN
        return preprocessor.resolution.admitted(self.processor_res)

    @property
    def a(self) -> float:
        slider = self.preprocessor.a
        return HIDDEN if slider is None else slider.admitted(self.threshold_a)

    @property
    def b(self) -> float:
        slider = self.preprocessor.b
        return HIDDEN if slider is None else slider.admitted(self.threshold_b)

    @property
    def curves(self) -> tuple[Curve, Curve] | None:
        """The weight over the steps in the first pass and in the second, if it has any. Raises: InvalidRequest."""
        return read_curves(self.advanced_weighting) if is_curve(self.advanced_weighting) else None

    def at(self, share: float, *, is_second_pass: bool) -> Unit:
        """With the weight that its curve has there, in place of weight, start and end; itself without a curve."""
        curves = self.curves
        if curves is None:
            return self
        weight = weight_at(curves[is_second_pass], share)
        return self.model_copy(update={"weight": weight, "guidance_start": 0.0, "guidance_end": 1.0})

    def is_active(self, share: float) -> bool:
        """share: of the steps that are behind."""
        return self.weight > 0 and self.guidance_start <= share <= self.guidance_end

    @property
    def weights(self) -> tuple[float, ...]:
        """Of each injection point in turn, () for those of the control mode. Raises: InvalidRequest."""
        if is_curve(self.advanced_weighting):
            return ()
        try:
            return tuple(float(part) for part in self.advanced_weighting.split(",") if part.strip())
        except ValueError as error:
            raise InvalidRequest(
                f'ControlNet: the weights "{self.advanced_weighting}" are not numbers between commas.'
            ) from error


def _pictures(value: Any) -> dict[str, Any]:
    """image and mask from what clients send as image: the picture, an object of both, or a list."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        return {name: value[name] for name in ("image", "mask") if value.get(name)}
    if isinstance(value, list):
        return {name: item for name, item in zip(("image", "mask"), value, strict=False) if item}
    return {"image": value}


def find_preprocessor(name: str) -> Preprocessor:
    """By its name in the API or its label, in any case of letters. Raises: InvalidRequest."""
    wanted = name.strip().lower()
    for candidate in PREPROCESSORS:
        if wanted in (candidate.id.lower(), candidate.label.lower()):
            return candidate
    raise InvalidRequest(f'ControlNet has no preprocessor called "{name}"; /controlnet/module_list names them all.')


class ControlNet(Params, title="ControlNet"):
    """Up to ten units, each of which steers the picture by another one."""

    units: tuple[Unit, ...] = group_list(Unit, count=3, count_setting="control_net_unit_count")
    batch_option: str = param(
        FOR_ALL, label="Batch Option", infotext=BATCH_OPTION_KEY, choices=BATCH_OPTIONS, kind="radio"
    )
    style_align: bool = param(False, label="[StyleAlign] Align image style in the batch.", infotext=STYLE_ALIGN_KEY)
    clip: int = 0
    """How many frames the clip has that a batch is, whose frames have pictures of their own; 0 for a plain batch."""
    turns: int = 0
    """How many pictures the units of a batch have, one after the other; written when the job is submitted."""

    @classmethod
    def from_api(cls, args: list[Any] | dict[str, Any]) -> Mapping[str, Any]:
        values = cls._in_order(args) if isinstance(args, list) else args
        return {name: value for name, value in values.items() if name not in OWN_NAMES}

    @classmethod
    def _in_order(cls, args: list[Any]) -> dict[str, Any]:
        """The units, one after the other or as one list, then the batch option and StyleAlign, if given."""
        option = next((place for place in (-1, -2) if len(args) >= -place and args[place] in BATCH_OPTIONS), 0)
        units = args[:option] if option else args
        if len(units) == 1 and isinstance(units[0], list):
            units = units[0]
        names = ("batch_option", "style_align")
        return {"units": units, **dict(zip(names, args[option:] if option else (), strict=False))}

    @classmethod
    def default_args(cls) -> list[Any]:
        """A value a unit, as sd-webui-controlnet lists them, then the batch option and StyleAlign."""
        default = cls()
        units = [unit.model_dump(mode="json") for unit in default.units]
        return [*units, default.batch_option, default.style_align]

    @property
    def enabled(self) -> tuple[Unit, ...]:
        return tuple(unit for unit in self.units if unit.enabled)

    def to_infotext(self, *, everything: bool = False) -> Mapping[str, object]:
        texts: dict[str, object] = {f"ControlNet {number}": told(unit) for number, unit in enumerate(self.enabled)}
        if len(texts) > 1 and self.batch_option != FOR_ALL:
            texts[BATCH_OPTION_KEY] = self.batch_option
        if self.style_align:
            texts[STYLE_ALIGN_KEY] = True
        return texts

    @classmethod
    def from_infotext(cls, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for key, text in fields.items():
            if match := KEY.fullmatch(key):
                values = read(str(text))
                found |= {f"units.{match[1]}.{name}": value for name, value in values.items()}
        if STYLE_ALIGN_KEY in fields:
            found["style_align"] = str(fields[STYLE_ALIGN_KEY]) == "True"
        if found:
            option = fields.get(BATCH_OPTION_KEY)
            found["batch_option"] = option if option in BATCH_OPTIONS else FOR_ALL
            for index in range(MOST_UNITS):
                found.setdefault(f"units.{index}.enabled", False)
        return found

    @classmethod
    def reads_key(cls, key: str) -> bool:
        return key in (BATCH_OPTION_KEY, STYLE_ALIGN_KEY) or KEY.fullmatch(key) is not None


KEY = re.compile(r"ControlNet (\d)")
SHOWN = {
    "Module": "module", "Model": "model", "Weight": "weight", "Resize Mode": "resize_mode",
    "Processor Res": "processor_res", "Threshold A": "threshold_a", "Threshold B": "threshold_b",
    "Guidance Start": "guidance_start", "Guidance End": "guidance_end", "Pixel Perfect": "pixel_perfect",
    "Control Mode": "control_mode",
}  # fmt: skip
CURVE = "advanced_weighting"
READ = {**SHOWN, "Weight Curve": CURVE}
"""What is told of every unit, and of those that have it."""


def told(unit: Unit) -> str:
    """The unit in a picture's text, in the words of sd-webui-controlnet."""
    sliders = {"processor_res": unit.resolution, "threshold_a": unit.a, "threshold_b": unit.b}
    asked = {"processor_res": unit.processor_res, "threshold_a": unit.threshold_a, "threshold_b": unit.threshold_b}
    values = {name: getattr(unit, name) for name in SHOWN.values()}
    for name in ("weight", "guidance_start", "guidance_end"):
        values[name] = float(values[name])
    for name, value in sliders.items():
        values[name] = float(value) if name != "processor_res" and value == asked[name] else value
    if values["processor_res"] != HIDDEN:
        values["processor_res"] = round(unit.resolution)
    if is_curve(unit.advanced_weighting):
        values[CURVE] = unit.advanced_weighting
    return ", ".join(f"{label}: {_quoted(values[name])}" for label, name in READ.items() if name in values)


def _quoted(value: object) -> str:
    text = str(value)
    return f"'{text}'" if "," in text or ":" in text else text


def read(text: str) -> dict[str, Any]:
    """The opposite of `told`: values by name; what can't be read is left out.

    Sliders have values within the bounds that the preprocessor sets, -1 where it has none.
    """
    values: dict[str, Any] = {"enabled": True}
    for label, quoted, plain in re.findall(r"([A-Z][\w ]*): (?:'([^']*)'|([^,]*))(?:,|$)", text):
        name = READ.get(label.strip())
        if name is None:
            continue
        value: Any = (quoted or plain).strip()
        if name == "pixel_perfect":
            value = value == "True"
        elif isinstance(Unit.model_fields[name].default, float | int):
            try:
                value = float(value)
            except ValueError:
                continue
        values[name] = value
    try:
        preprocessor = find_preprocessor(values.get("module", "none"))
    except InvalidRequest:
        return values  # which is told when it is asked for
    own = {"processor_res": preprocessor.resolution, "threshold_a": preprocessor.a, "threshold_b": preprocessor.b}
    for name, slider in own.items():
        if name in values:
            values[name] = slider.admitted(values[name]) if slider is not None else -1
    return values
