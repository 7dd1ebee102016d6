"""What the page shows of a training's parameters: drawn from their declarations, so that a new one appears by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.errors import InvalidRequest
from webui.core.params import Params
from webui.core.training import Kind, TrainingRequest
from webui.core.values import ParamSpec
from webui.services.choices import choices_of
from webui.services.services import Services

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
    Section("Pictures", "data", without=("every", "folders")),
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
    "lora": (Section("", "", ("checkpoint", "vae")), *_DATA, Section("Network", "lora"), _OPTIMIZATION, *_HOW, *_OUTPUT),
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


def form_of(services: Services, kind: Kind) -> list[dict[str, Any]]:
    """The sections of a sub-tab as JSON: title, and of each field path, label, kind, default, limits, choices, help."""
    return [
        {"title": section.title, "fields": [_field(services, spec, bounds) for spec, bounds in _specs(section)]}
        for section in SECTIONS[kind]
    ]


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
    group, prefix = _group_at(section.path)
    by_path = {spec.dotted: spec for spec in TrainingRequest.specs()}
    for name, field in group.model_fields.items():
        spec = by_path.get(f"{prefix}{name}")
        if spec is None or name in section.without or (section.only and name not in section.only):
            continue
        limits = {type(limit).__name__: limit for limit in field.metadata}
        yield spec, (getattr(limits.get("Ge"), "ge", None), getattr(limits.get("Le"), "le", None))


def _group_at(path: str) -> tuple[type[Params], str]:
    """The group at a dotted path, and what the paths of its parameters begin with."""
    group: Params = TrainingRequest()
    for part in filter(None, path.split(".")):
        group = getattr(group, part)
    return type(group), f"{path}." if path else ""


def _field(services: Services, spec: ParamSpec, bounds: Bounds) -> dict[str, Any]:
    kind = spec.shown_as
    long = kind == "textbox" and next((limit for limit in _longest(spec) if limit), 0) >= LONG_TEXT
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


def _longest(spec: ParamSpec) -> Iterator[int]:
    group, _ = _group_at(".".join(spec.path[:-1]))
    for limit in group.model_fields[spec.name].metadata:
        yield getattr(limit, "max_length", 0) or 0
