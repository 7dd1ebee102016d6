"""Fields that a request fills in and doesn't use: whatever a client puts there, it refuses nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from webui.core.choices import Choices
from webui.core.errors import InvalidRequest

T = TypeVar("T")

FILLERS = frozenset({"", "string", "default"})
"""What example bodies and forms have where nothing is meant."""
NAMES = frozenset(
    ["sampler_name", "sampler_index", "scheduler", "script_name", "force_task_id", "infotext", "firstpass_image"]
    + ["refiner_checkpoint", "hr_upscaler", "hr_checkpoint_name", "hr_sampler_name", "hr_scheduler", "mask"]
    + ["latent_mask", "upscaler_1", "upscaler_2"]
)
"""Fields that name something, or hold a picture or a text, and may be left out."""
INPAINTING = frozenset(
    ["mask_blur", "mask_blur_x", "mask_blur_y", "mask_round", "inpainting_mask_invert", "inpainting_fill"]
    + ["inpaint_full_res", "inpaint_full_res_padding", "latent_mask"]
)
CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")


def checked_where_used(values: Any, check: Callable[[Any], T]) -> T:
    """A body of JSON as `check` makes it. Null means the default; a field that isn't used may be anything.

    Raises: ValidationError, as `check`, for a field that is used.
    """
    if not isinstance(values, dict):
        return check(values)
    meant = without_fillers(values)
    try:
        return check(meant)
    except ValidationError as error:
        refused = {problem["loc"][0] for problem in error.errors(include_input=False) if problem["loc"]}
        idle = refused & unused_fields(meant)
        if not idle:
            raise
    return check({name: value for name, value in meant.items() if name not in idle})


def without_fillers(values: Mapping[str, Any]) -> dict[str, Any]:
    """The body without null, and without names that say nothing."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (name in NAMES and isinstance(value, str) and value.strip().lower() in FILLERS)
    }


def unused_fields(values: Mapping[str, Any]) -> set[str]:
    """Names of fields that have no effect in this body, which is as `without_fillers` leaves it."""
    unused: set[str] = set()
    if not values.get("script_name"):
        unused.add("script_args")
    if str(values.get("refiner_checkpoint", "None")).lower() == "none":
        unused |= {"refiner_checkpoint", "refiner_switch_at"}
    if not _is_on(values.get("enable_hr")):
        unused |= {name for name in values if name.startswith(("hr_", "firstphase_"))}
        if "init_images" not in values:
            unused.add("denoising_strength")
    if "mask" not in values:
        unused |= INPAINTING
    if not values.get("subseed_strength"):
        unused.add("subseed")
    sides = {"seed_resize_from_w", "seed_resize_from_h"}
    if not all(_is_positive(values.get(side)) for side in sides):
        unused |= sides
    unused |= _unused_churn(values)
    return unused | _unused_in_extras(values)


def _unused_churn(values: Mapping[str, Any]) -> set[str]:
    try:
        sampler, _ = Choices().find_sampler(str(values.get("sampler_name") or values.get("sampler_index") or "Euler"))
    except InvalidRequest:
        return set()
    return {name for name in CHURN if name not in sampler.extra_options}


def _unused_in_extras(values: Mapping[str, Any]) -> set[str]:
    unused = {"upscaling_resize"} if values.get("resize_mode") == 1 else {"upscaling_resize_w", "upscaling_resize_h"}
    if str(values.get("upscaler_2", "None")).lower() == "none":
        unused.add("extras_upscaler_2_visibility")
    return unused if values.get("codeformer_visibility") else {*unused, "codeformer_weight"}


def _is_on(switch: object) -> bool:
    return str(switch).lower() not in ("none", "false", "0", "off", "no", "f", "n")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0
