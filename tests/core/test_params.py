"""Laws of parameters, held against every registered group: our request's and those of extensions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticUndefined

from tests.fixture_extensions import fixture_host
from webui.core import infotext
from webui.core.choices import SAMPLERS, SCHEDULERS
from webui.core.errors import InvalidRequest
from webui.core.params import Params, group_list, listed_group, nested_group, param, picture, title_of
from webui.core.payload import from_json, to_json
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.core.settings_table import SETTINGS
from webui.core.values import from_text, is_optional, is_pictures, to_text, value_type
from webui.services.forms import EXTENSIONS, NOT_CHOSEN, form_from_request, group_from_form, request_from_form

HOST = fixture_host()
GROUPS = HOST.params
DEFAULTS = Settings.defaults((*SETTINGS, *HOST.settings))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
OWN_FIELDS = ("extensions", "overrides", "user", "remarks")
"""Of a request, what isn't a parameter."""


class Memory:
    """Contents by their hash."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.kept[digest] = data
        return digest

    def get(self, digest: str) -> bytes:
        return self.kept[digest]

    def path_of(self, digest: str) -> Path:
        raise FileNotFoundError(digest)


def values_of(field: Any) -> st.SearchStrategy[Any]:
    """Values of one parameter that it accepts, as far as its declaration tells."""
    annotation, extra = field.annotation, field.json_schema_extra or {}
    inner = nested_group(annotation)
    if listed_group(annotation) is not None:
        assert inner is not None
        most = next(item.max_length for item in field.metadata if hasattr(item, "max_length"))
        return st.lists(groups_of(inner), min_size=len(field.default), max_size=min(most, 4)).map(tuple)
    if inner is not None:
        found: st.SearchStrategy[Any] = groups_of(inner)
    elif extra.get("choices") and not isinstance(extra["choices"], str) and not callable(extra["choices"]):
        one = st.sampled_from(extra["choices"])
        found = st.lists(one, unique=True).map(tuple) if value_type(annotation) is tuple else one
    else:
        found = plain_values(annotation, field)
    return st.none() | found if is_optional(annotation) else found


def plain_values(annotation: Any, field: Any) -> st.SearchStrategy[Any]:
    limits = {
        name: getattr(item, name)
        for item in field.metadata
        for name in ("ge", "le", "multiple_of")
        if hasattr(item, name)
    }
    low, high, step = limits.get("ge", -(10**6)), limits.get("le", 10**6), limits.get("multiple_of", 1)
    if any(get_origin(item) is Literal for item in (annotation, *get_args(annotation))):
        return st.sampled_from(get_args(annotation))
    if is_pictures(annotation) or get_origin(annotation) is tuple and bytes in get_args(annotation):
        return st.lists(st.binary(min_size=1, max_size=8), max_size=2).map(tuple)
    strategies: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-(-int(low) // step), int(high) // step).map(lambda number: number * step),
        float: st.floats(low, high) | st.integers(-(-int(low) // 1), int(high)).filter(lambda n: low <= n <= high),
        bytes: st.binary(min_size=1, max_size=8),
        tuple: st.lists(TEXTS, max_size=3).map(tuple),
        str: TEXTS.filter(lambda text: text not in NOT_CHOSEN and text != "None") if field.default is None else TEXTS,
    }
    return strategies[value_type(annotation)]


def groups_of(group: type[Params]) -> st.SearchStrategy[Params]:
    fields = {name: field for name, field in group.model_fields.items() if name not in OWN_FIELDS}
    required = {name: values_of(field) for name, field in fields.items() if field.default is PydanticUndefined}
    others = {name: values_of(field) for name, field in fields.items() if name not in required}
    return st.fixed_dictionaries(required, optional=others).map(lambda values: group.as_given(**values))


OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "CLIP_stop_at_last_layers": st.integers(1, 12),
        "tiling": st.booleans(),
        "eta_ancestral": st.floats(0, 1),
        "randn_source": st.sampled_from(["GPU", "CPU", "NV"]),
    },
)
REQUESTS = st.builds(
    lambda request, extensions, overrides: request.replace(
        extensions={type(group).__name__: group for group in extensions}, overrides=overrides
    ),
    groups_of(GenerationRequest),
    st.tuples(*(groups_of(group) for group in GROUPS)),
    OVERRIDES,
)


@given(REQUESTS)
def test_form_to_request_to_json_to_request_is_the_identity(request: GenerationRequest) -> None:
    made = request_from_form(form_from_request(request, DEFAULTS), DEFAULTS, GROUPS)
    assert made == request
    blobs = Memory()
    text = json.dumps(to_json(made, blobs), allow_nan=False)
    again = from_json(GenerationRequest, json.loads(text), blobs, GROUPS)
    assert again == made
    assert json.dumps(to_json(again, blobs)) == text  # 7 stays 7 and 7.0 stays 7.0


def _told(field: Any) -> bool:
    extra = field.json_schema_extra or {}
    return bool(nested_group(field.annotation)) or bool(extra.get("infotext"))


def without_untold(params: Params) -> Params:
    """The group with everything at its default that no text tells; custom writers tell what they tell."""
    changes: dict[str, Any] = {}
    for name, field in type(params).model_fields.items():
        value = getattr(params, name)
        if not _told(field):
            changes[name] = field.default
        elif isinstance(value, Params):
            changes[name] = without_untold(value)
        elif listed_group(field.annotation) is not None:
            changes[name] = tuple(without_untold(item) for item in value)
    return params.replace(**changes)


GENERATED = [group for group in GROUPS if group.to_infotext is Params.to_infotext]


@pytest.mark.parametrize("group", GENERATED, ids=lambda group: group.__name__)
@given(data=st.data())
def test_request_to_infotext_to_form_returns_every_value_with_a_key(group: type[Params], data: Any) -> None:
    params = without_untold(data.draw(groups_of(group)))
    text = infotext.render("a cat", "", {"Steps": 1, "Seed": 2, **params.to_infotext(), "Version": "v1.10.1"})
    found = infotext.parse(text)
    assert group_from_form(group, group.from_infotext(found)) == params


def test_the_fixtures_are_among_the_groups() -> None:
    assert {"Stamps", "Tint"} <= {group.__name__ for group in GROUPS}
    assert {"Stamps"} <= {group.__name__ for group in GENERATED}


@given(TEXTS, st.sampled_from(["", "Words"]))
def test_a_text_is_read_as_it_was_written(text: str, key: str) -> None:
    assert from_text(str, to_text(text, key)) == text


@given(st.lists(TEXTS, max_size=4).map(tuple))
def test_a_list_is_read_as_it_was_written(texts: tuple[str, ...]) -> None:
    assert from_text(tuple[str, ...], to_text(texts)) == texts


@given(st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_as_it_was_written(value: bool | int | float) -> None:
    assert from_text(type(value), to_text(value)) == value


@pytest.mark.parametrize(
    ("annotation", "text"), [(bool, "yes"), (int, "1.5"), (int, "x"), (float, "nan"), (float, "inf"), (int, "")]
)
def test_a_text_of_another_type_is_refused(annotation: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_text(annotation, text)


class Dot(Params):
    """One dot.

    It is small.
    """

    size: int = param(1, label="Size", infotext="Dot size", ge=1, le=9, step=1)
    image: bytes | None = picture(label="Shape")


class Dots(Params, title="Many dots"):
    dots: tuple[Dot, ...] = group_list(Dot, 2, infotext="Dot {index}", most=3)


def test_a_group_has_a_title() -> None:
    assert [title_of(group) for group in (Dots, Dot)] == ["Many dots", "One dot"]


def test_items_of_a_list_have_their_place_in_the_path() -> None:
    paths = {spec.dotted: spec for spec in Dots.specs()}
    assert list(paths) == ["dots.0.size", "dots.0.image", "dots.1.size", "dots.1.image"]
    assert paths["dots.1.image"].shown_as == "picture"
    assert {spec.infotext for spec in paths.values()} == {None}


def test_a_mistake_in_an_item_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"Size \(dots.1.size\) must be .*got 12"):
        Dots.checked(dots=({}, {"size": 12}))
    with pytest.raises(InvalidRequest, match="at most 3"):
        Dots.checked(dots=({},) * 4)


def test_each_item_is_told_under_its_own_key() -> None:
    dots = Dots(dots=(Dot(), Dot(size=4), Dot(size=5)))
    assert dots.to_infotext() == {"Dot 1": "Dot size: 4", "Dot 2": "Dot size: 5"}
    assert Dots.from_infotext({"Dot 1": "Dot size: 4"}) == {"dots.1.size": 4}
    assert [Dots.reads_key(key) for key in ("Dot 0", "Dot 12", "Dot x", "Dot size")] == [True, True, False, False]


def test_samplers_and_schedules_are_unlike_what_means_none_chosen() -> None:
    names = {sampler.name for sampler in SAMPLERS} | {schedule.label for schedule in SCHEDULERS}
    assert not names & NOT_CHOSEN
    assert EXTENSIONS == "extensions"
