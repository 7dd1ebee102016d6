"""From the text that describes a picture to the form that would make it again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from webui.core import infotext
from webui.core.choices import (
    SAME_CHECKPOINT,
    SAME_SAMPLER,
    SAME_SCHEDULER,
)
from webui.core.errors import InvalidRequest, WebuiError
from webui.core.image_choices import BY_FIELD
from webui.core.params import Params
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.core.values import ParamSpec, from_text
from webui.prompts.attention import uses_emphasis
from webui.services.forms import EXTENSIONS, OVERRIDES, SCRIPT, script_groups, value_from_text
from webui.services.generation import generation_result
from webui.services.networks import with_local_names
from webui.services.services import Services

Mode = Literal["txt2img", "img2img"]

ELSEWHERE: Mapping[str, str] = {
    "Prompt": "prompt",
    "Negative prompt": "negative_prompt",
    "Size-1": "width",
    "Size-2": "height",
    "Batch size": "batch_size",
    "Hires resize-1": "hires.resize_width",
    "Hires resize-2": "hires.resize_height",
    "Seed resize from-1": "variation.resize_from_width",
    "Seed resize from-2": "variation.resize_from_height",
}
"""Keys of an infotext that no single parameter declares, and the field each fills."""

NOT_IN: Mapping[Mode, tuple[str, ...]] = {"txt2img": ("image",), "img2img": ("hires",)}
"""Groups of parameters that a tab has no fields for."""

VARIED = ("Variation seed", "Seed resize from")
"""Beginnings of the keys of what stands under Extra."""

NEVER_OVERRIDDEN = ("sd_model_checkpoint",)
"""A1111's `disable_weights_auto_swap`, on by default, keeps an infotext from changing the model."""


def last_infotext(services: Services, owner: str) -> str:
    """The infotext of the last generation: from params.txt, or where several use the page of this owner's last job.

    Raises: InvalidRequest when there is none.
    """
    if services.belongings.for_one:
        with suppress(OSError, UnicodeDecodeError):
            return services.paths.params_txt.read_text(encoding="utf-8")
    else:
        for job_id in services.belongings.last_jobs(owner):
            with suppress(WebuiError):  # one that has failed, or isn't over
                if images := generation_result(services, job_id).images:
                    return images[0].infotext
    raise InvalidRequest("The prompt is empty and nothing has been generated yet, so there is nothing to read.")


IMPLIED = ("variation", EXTENSIONS)
"""Groups whose parameters are written only where they differ from their defaults."""


def fields_of(text: str, services: Services, *, whole: bool = False) -> dict[str, Any]:
    """The fields of an infotext by their keys, read as the settings say: styles, old versions, fields to skip.

    whole: with those that the user doesn't want pasted.
    """
    settings = services.settings.snapshot()
    found = infotext.parse(
        text,
        styles=services.styles,
        styles_mode=settings["infotext_styles"],
        uses_emphasis=uses_emphasis,
        backcompat=settings["auto_backcompat"],
        skip=() if whole else settings["infotext_skip_pasting"],
    )
    for key in ("Prompt", "Hires prompt"):
        if key in found and "Lora hashes" in found:
            hashes, preferred = str(found["Lora hashes"]), settings["lora_preferred_name"]
            found[key] = with_local_names(str(found[key]), hashes, services.networks.loras, preferred)
    return found


@dataclass(frozen=True)
class Pasted:
    """form: field -> value, of what the infotext tells and of what it implies to be at its default.

    left_out: "Key: value" of what can't be had here.
    """

    form: Mapping[str, Any]
    left_out: tuple[str, ...]


def form_from_infotext(text: str, services: Services, mode: Mode = "txt2img", *, whole: bool = False) -> Pasted:
    """The form that an infotext describes. mode: the tab whose form it is. whole: with what the settings skip.

    Its field "overrides" has a line for every setting that the picture was made with and that is another now.
    A prompt whose colons make it look like fields, none of which anybody knows, is a prompt.
    """
    settings = services.settings.snapshot()
    found = fields_of(text, services, whole=whole)
    if not _is_infotext(text, services, settings):
        return Pasted({"prompt": text, OVERRIDES: []}, ())
    form: dict[str, Any] = {"refiner": "Refiner" in found}
    if mode == "txt2img":
        form["hires"] = _has_hires(found)
    else:
        form["image.inpaint.soft"] = str(found.get("Soft inpainting enabled")) == "True"
    left_out: list[str] = []
    skipped = () if whole else settings["infotext_skip_pasting"]
    complete = "Steps" in found or "Seed" in found  # more than a prompt
    if complete and not any(key.startswith(VARIED) for key in skipped):
        form["variation"] = any(key.startswith(VARIED) for key in found)
    fields = [field for field in _fields(services, settings) if field[1].partition(".")[0] not in NOT_IN[mode]]
    for key, path, spec in fields:
        if key not in found:
            written = key.removesuffix("-1").removesuffix("-2")
            if complete and path.partition(".")[0] in IMPLIED and written not in skipped:
                form[path] = spec.default
            continue
        value = _value(spec, str(found[key]), services)
        if value is not None:
            form[path] = value
        else:
            left_out.append(f"{key}: {found[key]}")
    for group in (*services.host.params, *script_groups(services.choices, mode)):
        values, unread = _group_form(group, found, services)
        form |= {f"{EXTENSIONS}.{group.__name__}.{path}": value for path, value in values.items()}
        left_out += unread
    if "Script" in found:
        with suppress(InvalidRequest):  # another program's, which Easel doesn't have
            form[SCRIPT] = services.choices.find_script(str(found["Script"]), mode).title
    if "Styles array" in found:
        form["styles"] = list(found["Styles array"])
    form[OVERRIDES] = override_lines(found, settings, {key for key, _, _ in fields})
    return Pasted(form, tuple(left_out))


def _is_infotext(text: str, services: Services, settings: Settings) -> bool:
    """Whether any field in the text has a key that Easel or A1111 knows, or there are no fields at all."""
    told = set(infotext.parse(text, fill_defaults=False, backcompat=False)) - {"Prompt", "Negative prompt"}
    known = {*infotext.FIELD_ORDER, *infotext.LAST_FIELDS, *infotext.OTHER_KEYS, "Size-1"}
    known |= {key for key, _, _ in _fields(services, settings)}
    known |= {setting.infotext for setting in settings.table.values() if setting.infotext}
    return not told or bool(told & known)


def override_lines(found: Mapping[str, Any], settings: Settings, used: set[str]) -> list[str]:
    """ "Label: value" for every setting whose value in the infotext is another than the current one.

    used: labels that fields of the form take.
    """
    lines = []
    for setting in settings.table.values():
        label = setting.infotext
        if not label or label in used or label not in found:
            continue
        if setting.key in NEVER_OVERRIDDEN and settings["disable_weights_auto_swap"]:
            continue
        try:
            value = value_from_text(setting, str(found[label]))
        except WebuiError:
            continue  # written by another program or version
        if value != settings[setting.key]:
            lines.append(f"{label}: {found[label]}")
    return lines


def _has_hires(found: Mapping[str, Any]) -> bool:
    resized = str(found.get("Hires resize-1", 0)) != "0"
    return "Denoising strength" in found and (resized or "Hires upscale" in found or "Hires upscaler" in found)


def _fields(services: Services, settings: Settings) -> Iterator[tuple[str, str, ParamSpec]]:
    """(infotext key, field, parameter) for everything in the form that an infotext can fill."""
    labels = {setting.infotext for setting in settings.table.values()}  # Tiling: an override, not a field
    specs = {spec.dotted: spec for spec in GenerationRequest.specs()}
    for path, spec in specs.items():
        if spec.infotext and spec.infotext not in labels:
            yield spec.infotext, path, spec
    for key, path in ELSEWHERE.items():
        yield key, path, specs[path]


def _group_form(group: type[Params], found: Mapping[str, Any], services: Services) -> tuple[dict[str, Any], list[str]]:
    """What an infotext tells of an extension's parameters, by dotted path; and the fields that can't be had here.

    When something can't be read, each field is read for itself, so that the others aren't lost.
    """
    own = {key: value for key, value in found.items() if group.reads_key(re.sub("-[12]$", "", key))}
    own |= {key: value for key, value in found.items() if group.reads_key(key)}
    left_out: list[str] = []
    try:
        values = dict(group.from_infotext(own)) if own else {}
    except WebuiError:
        values = {}
        for key, value in own.items():
            try:
                values |= group.from_infotext({key: value})
            except WebuiError:
                left_out.append(f"{key}: {value}")
    specs = {spec.dotted: spec for spec in group.specs()}
    for path, value in list(values.items()):
        spec = specs.get(path) or specs.get(re.sub(r"\.\d+\.", ".0.", path))
        if spec is not None and isinstance(value, str) and isinstance(spec.choices, str):
            spelled = _value(spec, value, services)
            if spelled is None:
                left_out.append(f"{spec.label}: {values.pop(path)}")
            else:
                values[path] = spelled
    return values, left_out


def _value(spec: ParamSpec, text: str, services: Services) -> Any:
    """The text in the parameter's type and spelling, None when it doesn't fit."""
    if spec.choices == "checkpoints":
        return _checkpoint(text, services)
    if spec.choices == "samplers" and text != SAME_SAMPLER:
        return _spelling(lambda: services.choices.find_sampler(text)[0].name)
    if spec.choices == "schedulers" and text != SAME_SCHEDULER:
        return _spelling(lambda: services.choices.find_scheduler(text).label)
    if spec.choices == "hires_upscalers":
        return _spelling(lambda: services.choices.find_hires_upscaler(text))
    if spec.dotted in BY_FIELD:
        return BY_FIELD[spec.dotted].get(text)
    try:
        return from_text(spec.annotation, text)
    except ValueError:
        return None


def _checkpoint(name: str, services: Services) -> str | None:
    if name == SAME_CHECKPOINT:
        return name
    return _spelling(lambda: services.checkpoints.find(name).title)


def _spelling(find: Callable[[], str]) -> str | None:
    try:
        return find()
    except WebuiError:
        return None
