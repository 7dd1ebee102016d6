"""What a face swap is asked: its parameters, their order in old clients' lists, and what a picture's text tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from webui.extensions.api import InvalidRequest, Params, param, picture

SOURCES = ("Image(s)", "Face Model", "Folder")
IMAGES, FACE_MODEL, FOLDER = SOURCES
RESTORERS = ("None", "CodeFormer", "GFPGAN")
GENDERS = ("No", "Female Only", "Male Only")
LOG_LEVELS = ("No log", "Minimum", "Default")
DEVICES = ("CPU", "CUDA")
ORDERS = ("left-right", "right-left", "top-bottom", "bottom-top", "large-small", "small-large")
SIDES = ("128", "256", "512")
NO_MODEL = "None"
SWAPPER = "inswapper_128.onnx"

ORDER = (
    *("img", "enabled", "source_faces_index", "faces_index", "model", "face_restorer_name", "face_restorer_visibility"),
    *("restore_first", "upscaler_name", "upscaler_scale", "upscaler_visibility", "swap_in_source"),
    *("swap_in_generated", "console_log_level", "gender_source", "gender_target", "save_original"),
    *("codeformer_weight", "source_hash_check", "target_hash_check", "device", "mask_face", "select_source"),
    *("face_model", "source_folder", "imgs", "random_image", "upscale_force", "det_thresh", "det_maxnum", "tab"),
)
"""The values of the extension of A1111's in its API's order."""

OTHER_NAMES = {
    "image": "img",
    "source_image": "img",
    "source_imgs": "imgs",
    "multiple_sources": "imgs",
    "enable": "enabled",
    "face_index": "faces_index",
    "target_faces_index": "faces_index",
    "codeFormer_weight": "codeformer_weight",
    "face_restorer": "face_restorer_name",
    "restorer": "face_restorer_name",
    "upscaler": "upscaler_name",
    "restorer_visibility": "face_restorer_visibility",
    "upscale_visibility": "upscaler_visibility",
    "scale": "upscaler_scale",
    "console_logging_level": "console_log_level",
    "log_level": "console_log_level",
    "random_img": "random_image",
    "mask_correction": "mask_face",
    "force_upscale": "upscale_force",
    "detection_threshold": "det_thresh",
    "max_faces": "det_maxnum",
    "selected_tab": "tab",
    "swapper": "model",
    "source_face_numbers": "source_faces_index",
    "target_face_numbers": "faces_index",
    "swapper_model": "model",
    "hash_check_source": "source_hash_check",
    "hash_check_target": "target_hash_check",
}
"""What else clients call them."""
CHOICES = {
    "gender_source": GENDERS, "gender_target": GENDERS, "select_source": SOURCES, "console_log_level": LOG_LEVELS,
}  # fmt: skip
TEXTS = ("source_faces_index", "faces_index", "source_folder", "face_model", "upscaler_name", "face_restorer_name")
FLAGS = (
    *("enabled", "restore_first", "swap_in_source", "swap_in_generated", "save_original", "source_hash_check"),
    *("target_hash_check", "mask_face", "random_image", "upscale_force"),
)


class Swap(Params):
    """What both places that swap faces, generating and Extras, ask alike."""

    forgiving: ClassVar[bool] = True

    img: bytes | None = picture(label="Single Source Image")
    imgs: tuple[bytes, ...] = picture(label="Multiple Source Images", several=True)
    select_source: str = param(IMAGES, label="Select Source", choices=SOURCES, kind="radio")
    face_model: str = param(NO_MODEL, label="Choose Face Model", max_length=200)
    source_folder: str = param("", label="Source Folder", max_length=1000)
    random_image: bool = param(False, label="Random Image")
    mask_face: bool = param(False, label="Face Mask Correction", help="A smoother border around the swapped face")
    keep_covered: bool = param(False, label="Keep what covers the face", help="Hands, hair and glasses in front of it")
    match_colors: bool = param(
        False, label="Match colours", help="The swapped face takes the colours of the one it replaces"
    )
    side: str = param("128", label="Pixels of a face", choices=SIDES, help="More swaps it in 4 or 16 interleaved parts")
    source_faces_index: str = param("0", label="Comma separated face number(s), source", max_length=1000)
    gender_source: str = param("No", label="Gender Detection (Source)", choices=GENDERS, kind="radio")
    order_source: str = param("left-right", label="Order of faces (Source)", choices=ORDERS)
    faces_index: str = param("0", label="Comma separated face number(s), target", max_length=1000)
    gender_target: str = param("No", label="Gender Detection (Target)", choices=GENDERS, kind="radio")
    order_target: str = param("left-right", label="Order of faces (Target)", choices=ORDERS)
    face_restorer_name: str = param("None", label="Restore Face", choices=RESTORERS, kind="radio")
    face_restorer_visibility: float = param(1.0, label="Restore Face Visibility", ge=0, le=1, step=0.1)
    codeformer_weight: float = param(
        0.5, label="CodeFormer Weight", ge=0, le=1, step=0.1, help="0 = maximum effect, 1 = minimum effect"
    )
    det_thresh: float = param(0.5, label="Threshold", ge=0.1, le=1, step=0.01)
    det_maxnum: int = param(0, label="Max Faces", ge=0, le=20, step=1, help="0 = no limit")
    restore_first: bool = param(True, label="1. Restore Face -> 2. Upscale")
    upscale_force: bool = param(False, label="Force Upscale", help="Also where no face was found")
    upscaler_name: str = param("None", label="Upscaler", choices="upscalers")
    upscaler_scale: float = param(1.0, label="Scale by", ge=1, le=8, step=0.1)
    upscaler_visibility: float = param(1.0, label="Upscaler Visibility", ge=0, le=1, step=0.1, help="If scale is 1")
    device: str = param("CPU", label="Execution Provider", choices=DEVICES, kind="radio")
    model: str = param(SWAPPER, label="Model", max_length=200)
    console_log_level: str = param("Minimum", label="Console Log Level", choices=LOG_LEVELS, kind="radio")
    source_hash_check: bool = param(True, label="Source Image Hash Check")
    target_hash_check: bool = param(False, label="Target Image Hash Check")
    tab: str = ""
    """Which of the sources is meant where both are given: "tab_single" or "tab_multiple"."""

    @classmethod
    def from_api(cls, args: list[Any] | dict[str, Any]) -> Mapping[str, Any]:
        if isinstance(args, list):
            if len(args) > len(ORDER):
                raise InvalidRequest(f"The args of ReActor must be up to {len(ORDER)} values, or an object of them.")
            args = dict(zip(ORDER, args, strict=False))
        values = {OTHER_NAMES.get(name, name): value for name, value in args.items() if value is not None}
        return {name: as_meant(name, value) for name, value in values.items()}

    @property
    def pictures(self) -> tuple[bytes, ...]:
        """The source pictures that were given: of the tab in use, or whichever there are."""
        single = (self.img,) if self.img else ()
        if self.tab:
            return self.imgs if self.tab == "tab_multiple" else single
        return single or self.imgs

    @property
    def source_numbers(self) -> tuple[int, ...]:
        return numbers_in(self.source_faces_index, "source")

    @property
    def target_numbers(self) -> tuple[int, ...]:
        return numbers_in(self.faces_index, "target")

    def require_sense(self) -> None:
        """Raises: InvalidRequest for what can be told without looking at any picture."""
        for spec in type(self).specs():
            value = getattr(self, spec.name)
            if isinstance(spec.choices, tuple) and value not in spec.choices:
                raise InvalidRequest(f'ReActor: {spec.name} is "{value}"; choose one of {", ".join(spec.choices)}.')
        sources, targets = self.source_numbers, self.target_numbers
        if len(sources) > 1 and len(sources) != len(targets):
            raise InvalidRequest(
                f"ReActor has {len(sources)} source faces for {len(targets)} target faces; give one number for all, or "
                "as many as there are targets."
            )
        if self.select_source == IMAGES and not self.pictures:
            raise InvalidRequest("ReActor has no source picture; load one, choose a face model, or switch it off.")
        if self.select_source == FACE_MODEL and self.face_model in ("", NO_MODEL):
            raise InvalidRequest("ReActor has no face model; choose one, or another source.")
        if self.select_source == FOLDER and not self.source_folder.strip():
            raise InvalidRequest("ReActor has no source folder; name one, or choose another source.")


class ReActor(Swap, title="ReActor"):
    """Exchange the faces of finished pictures."""

    enabled: bool = param(False, label="Enable")
    save_original: bool = param(False, label="Save Original")
    swap_in_source: bool = param(False, label="Swap in source image")
    swap_in_generated: bool = param(True, label="Swap in generated image")
    tab: str = param("", label="Selected tab", max_length=100)

    @classmethod
    def reads_key(cls, key: str) -> bool:
        return key == KEY

    @classmethod
    def from_infotext(cls, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """What can be had again from the text; it doesn't hold the source, so nothing is switched on."""
        from_text: dict[str, Any] = {}
        for entry in str(fields.get(KEY, "")).split(", "):
            label, _, value = entry.partition(": ")
            name = TOLD.get(label)
            if name == "face_restorer_name" and value not in RESTORERS:
                continue
            if name is not None and value:
                from_text[name] = value.replace(" ", ",") if name == "faces_index" else value
        return from_text


class ReActorStep(Swap, title="ReActor"):
    """Exchange the faces of a picture"""

    enabled: bool = param(False, label="Enable")


KEY = "ReActor"
TOLD = {"model": "model", "restorer": "face_restorer_name", "target index": "faces_index"}


def told(options: Swap, source: str) -> str:
    """The picture's text: what was done, without anything of the source picture."""
    indices = " ".join(str(number) for number in options.target_numbers)
    model, restorer = options.model, options.face_restorer_name
    return f"source: {source}, model: {model}, restorer: {restorer}, target index: {indices}"


def as_meant(name: str, value: Any) -> Any:
    """A value as clients send it, as the parameter has it: places in lists of choices, numbers for text, 0 and 1."""
    offered = CHOICES.get(name)
    if offered is not None and isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < len(offered) or value != int(value):
            raise InvalidRequest(f"ReActor: {name} must be 0 to {len(offered) - 1}, got {value:g}.")
        return offered[int(value)]
    if name == "model" and not value:
        return SWAPPER
    if name in TEXTS and isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    if name in TEXTS and isinstance(value, list):
        return ",".join(str(item) for item in value)
    if name in FLAGS and isinstance(value, int) and value in (0, 1):
        return bool(value)
    if name == "device" and isinstance(value, str):
        return next((known for known in DEVICES if known.lower() == value.lower()), value)
    if name == "side":
        return str(value)
    if name == "imgs" and isinstance(value, str):
        return [value] if value else []
    return value


def numbers_in(text: str, which: str) -> tuple[int, ...]:
    """The face numbers of "0, 2"; (0,) for none. Raises: InvalidRequest."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and len(part) < 4 for part in parts):
        raise InvalidRequest(f'ReActor: "{text}" are no {which} face numbers; write them as 0 or 0,2.')
    return tuple(int(part) for part in parts) or (0,)
