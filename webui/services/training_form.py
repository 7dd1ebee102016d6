"""What the page shows of a training's parameters: made from their declarations, so that a new one shows itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from webui.core.errors import InvalidRequest
from webui.core.params import Params
from webui.core.training import TrainingRequest
from webui.core.values import ParamSpec
from webui.services.choices import choices_of
from webui.services.services import Services
from webui.services.train_tab import ELEM_IDS, GROUPS

LONG_TEXT = 5000
"""Characters from which on a text has more than a line to be typed in."""


@dataclass(frozen=True)
class Section:
    """Parameters that are shown together. path: of their group in the request. only: names of some; "" for all."""

    title: str
    path: str
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


_DATA = (
    Section("Pictures", "data", without=("every", "folders", "datasets")),
    Section(
        "Captions and variation of the pictures",
        "data.every",
        without=("image_dir", "is_reg", "face_crop_aug_range"),
    ),
)
_HOW = (Section("Loss and noise", "loss"), Section("Precision and speed", "numerics"))
_OUTPUT = (Section("Saving", "saving"), Section("Sample pictures", "samples"))
_OPTIMIZATION = Section("Steps and learning rates", "optimization", without=("gradient_clipping", "gradient_clip"))
SECTIONS: Mapping[str, tuple[Section, ...]] = {
    "lora": (
        Section("", "", ("checkpoint", "vae")),
        *_DATA,
        Section("Network", "lora"),
        _OPTIMIZATION,
        *_HOW,
        *_OUTPUT,
    ),
    "dreambooth": (
        Section("", "", ("checkpoint",)),
        Section("DreamBooth", "dreambooth"),
        *_DATA,
        _OPTIMIZATION,
        *_HOW,
        *_OUTPUT,
    ),
}
"""What the sub-tabs with a long form show, in order."""


def form_of(services: Services, kind: str) -> list[dict[str, Any]]:
    """The sections of a sub-tab as JSON: title, and of each field path, label, kind, default, limits, choices, help."""
    return [{"title": section.title, "fields": list(_fields(services, section))} for section in SECTIONS[kind]]


def request_of(values: Mapping[str, Any]) -> TrainingRequest:
    """The request that values by dotted path make; what isn't named has its default.

    Raises: InvalidRequest for an unknown parameter and for a value that it can't have.
    """
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *groups, name = path.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise InvalidRequest(f"There is no parameter {path[:200]}.")
        place[name] = value
    return TrainingRequest.checked(**nested)


Bounds = tuple[float | None, float | None]


def _specs(section: Section) -> Iterator[tuple[ParamSpec, Bounds]]:
    """Of the group's own parameters, not those of groups in it."""
    prefix = tuple(filter(None, section.path.split(".")))
    for spec, bounds in _specs_of(_group_at(prefix)):
        if spec.name not in section.without and (not section.only or spec.name in section.only):
            yield replace(spec, path=(*prefix, *spec.path)), bounds


def _specs_of(group: type[Params]) -> Iterator[tuple[ParamSpec, Bounds]]:
    """The group's own parameters, with the limits of what is accepted."""
    for spec in group.specs():
        if len(spec.path) == 1:
            limits = {type(limit).__name__: limit for limit in group.model_fields[spec.name].metadata}
            yield spec, (getattr(limits.get("Ge"), "ge", None), getattr(limits.get("Le"), "le", None))


def _group_at(path: tuple[str, ...]) -> type[Params]:
    group: Params = TrainingRequest()
    for part in path:
        group = getattr(group, part)
    return type(group)


def _field(services: Services, spec: ParamSpec, bounds: Bounds, group: type[Params]) -> dict[str, Any]:
    """group: which declares it."""
    kind = spec.shown_as
    longest = max((getattr(limit, "max_length", 0) for limit in group.model_fields[spec.name].metadata), default=0)
    long = kind == "textbox" and longest >= LONG_TEXT
    field: dict[str, Any] = {
        "path": spec.dotted,
        "label": spec.label,
        "kind": "longtext" if long else "number" if kind == "slider" else kind,
        "default": list(spec.default) if isinstance(spec.default, tuple) else spec.default,
    }
    low, high = bounds
    whole = spec.type is int
    facts = {
        "min": low,
        "max": high,
        "step": spec.slider[2] if spec.slider else 1 if whole else None,
        "choices": [*choices_of(services, spec)] if spec.choices is not None else None,
        "open": True if isinstance(spec.choices, str) else None,
        "optional": True if spec.optional else None,
        "help": spec.help,
    }
    return field | {key: value for key, value in facts.items() if value is not None}


def _fields(services: Services, section: Section) -> Iterator[dict[str, Any]]:
    group = _group_at(tuple(filter(None, section.path.split("."))))
    for spec, bounds in _specs(section):
        yield _field(services, spec, bounds, group)


def tab_fields(services: Services, name: str) -> list[dict[str, Any]]:
    """Of one of A1111's sub-tabs, under its element ids."""
    group, ids = GROUPS[name], ELEM_IDS[name]
    return [{**_field(services, spec, bounds, group), "elem_id": ids[spec.name]} for spec, bounds in _specs_of(group)]
