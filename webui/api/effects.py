"""What a body of /sdapi/v1 gives and nothing heeds, told in sentences.

What the request itself leaves without effect, whoever asked, is told by `webui.pipeline.fit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from webui.api.extension_args import BUILT_IN_SCRIPTS
from webui.api.schema import TAKES_NO_SCRIPTS, Body, ImageToImageBody
from webui.core.errors import nearest

MOST_NAMED = 20
SECOND_PASS = ("hr_", "firstphase_")
OF_A_MASK = ("mask_blur", "mask_blur_x", "mask_blur_y", "mask_round", "latent_mask")
OF_INPAINTING = ("inpainting_", "inpaint_")


def idle_fields(body: Body) -> Iterator[str]:
    """Sentences about fields that the client gave a value of their own and that change nothing here."""
    fields = type(body).model_fields
    for name in body.unknown[:MOST_NAMED]:
        yield f'There is no field "{name[:100]}"{nearest(name[:100], fields)}; it was passed over.'
    for name in ("comments", "firstpass_image"):
        if getattr(body, name, None) is not None:
            yield f"{name} has no effect: in A1111 it is for its own scripts."
    for name in ("do_not_save_samples", "do_not_save_grid"):
        if getattr(body, name) and body.save_images:
            yield f"{name} has no effect beside save_images, which decides, as in A1111."
    if body.script_args and (body.script_name or "").lower() in TAKES_NO_SCRIPTS:
        yield "script_args has no effect without a script_name."
    for title, content in body.alwayson_scripts.items():
        if title.lower() in BUILT_IN_SCRIPTS and isinstance(content, dict) and content.get("args"):
            yield f'The args of the script "{title}" have no effect; the request\'s own fields say the same.'
    if given(body, "refiner_switch_at") and not getattr(body, "refiner_checkpoint", None):
        yield "refiner_switch_at has no effect without a refiner_checkpoint."
    yield from _idle_groups(body)


def _idle_groups(body: Body) -> Iterator[str]:
    """Fields of hires fix and of inpainting while it is off."""
    names = [name for name in type(body).model_fields if given(body, name)]
    if not isinstance(body, ImageToImageBody):
        idle = [name for name in names if name.startswith(SECOND_PASS) or name == "denoising_strength"]
        if idle and not getattr(body, "enable_hr", False):
            yield f"Without enable_hr there is no second pass, so {_and(idle)} no effect."
    else:
        idle = [name for name in names if name in OF_A_MASK or name.startswith(OF_INPAINTING)]
        if idle and getattr(body, "mask", None) is None:
            yield f"Without a mask the whole picture is painted anew, so {_and(idle)} no effect."


def given(body: Body, name: str) -> bool:
    """Whether the client gave the field another value than its default."""
    field: Any = type(body).model_fields.get(name)
    return field is not None and name in body.model_fields_set and getattr(body, name) != field.default


def _and(names: list[str]) -> str:
    """'a has', 'a and b have'."""
    if len(names) == 1:
        return f"{names[0]} has"
    return f"{', '.join(names[:-1])} and {names[-1]} have"
