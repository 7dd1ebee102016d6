"""alwayson_scripts serves the groups of extensions: by class and title, by name and in order, with pictures."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.fixture_extensions import fixture_host
from webui.api.schema import TextToImageBody, filled_in, request_of
from webui.core.choices import Choices
from webui.core.errors import InvalidRequest
from webui.core.request import GenerationRequest

GROUPS = fixture_host().params
PICTURE = b"\x89PNG any bytes"
BASE64 = base64.b64encode(PICTURE).decode()


def asked(title: str, args: Any) -> GenerationRequest:
    return request_of(TextToImageBody(alwayson_scripts={title: {"args": args}}), GROUPS, Choices())


@pytest.mark.parametrize("title", ["Stamps", "stamps", "Stamp collection", "STAMP COLLECTION"])
def test_a_group_is_found_by_its_class_and_its_title(title: str) -> None:
    assert asked(title, {"note": "x"}).extensions["Stamps"].model_dump()["note"] == "x"


@pytest.mark.parametrize(
    "args",
    [
        [{"enabled": True, "image": BASE64, "edge": {"width": 2}}, {"words": "b"}],
        {"units": [{"enabled": True, "image": f"data:image/png;base64,{BASE64}", "edge": [2]}, {"words": "b"}]},
        {"units": [[True, BASE64, 1.0, "", [], [2, "red"]], {"words": "b"}]},
    ],
)
def test_items_with_pictures_come_by_name_and_in_order(args: Any) -> None:
    first, second = asked("Stamps", args).extensions["Stamps"].units  # type: ignore[attr-defined]
    assert (first.enabled, first.image, first.edge.width) == (True, PICTURE, 2)
    assert (second.words, second.opacity, second.image) == ("b", 0.5, None)  # what isn't given is that item's default


def test_an_old_order_of_arguments_is_translated() -> None:
    wanted = {"enabled": True, "red": 10, "green": 20, "blue": -30}
    for args in ([None, True, 10, 20, -30], {"active": True, "r": 10, "g": 20, "b": -30}, wanted):
        assert asked("colour tint", args).extensions["Tint"].model_dump() == wanted


def test_what_the_older_extension_ignored_is_named_in_a_remark() -> None:
    request = asked("Tint", {"red": 1, "gamma": 2.2})
    assert request.extensions["Tint"].model_dump()["red"] == 1
    assert request.remarks == ('Colour tint has no parameter "gamma"; it was ignored.',)


@pytest.mark.parametrize(
    ("title", "args", "says"),
    [
        ("Stamps", {"unit": []}, "has no parameter unit"),
        ("Stamps", [{"weight": 1}], "has no parameter weight"),
        ("Stamps", {"units": {}}, "units must be a list"),
        ("Stamps", {"units": [7]}, r"units\[0\] must be an object"),
        ("Stamps", {"units": [{}] * 5}, "at most 4"),
        ("Stamps", {"units": [{"image": 7}]}, r"units\[0\].image must be a picture"),
        ("Stamps", {"units": [{"image": "%%%"}]}, r"units\[0\].image is not base64"),
        ("Stamps", {"units": [{"image": "https://example.com/a.png"}]}, r"units\[0\].image is an address"),
        ("Stamps", {"units": [{"opacity": 7}]}, "Opacity"),
        ("Stamps", "all", "args must be"),
        ("Tint", {"red": 999}, "Red"),
        ("Tints", {}, 'closest is "Tint"'),
    ],
)
def test_what_cannot_be_meant_is_refused(title: str, args: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        asked(title, args)


def test_an_infotext_fills_groups_that_the_client_leaves_open() -> None:
    form = {"extensions.Stamps.units.1.opacity": 0.25, "extensions.Stamps.units.1.edge": True}
    form |= {"extensions.Stamps.units.1.edge.width": 3, "extensions.Tint.red": 5}
    body = filled_in(TextToImageBody(alwayson_scripts={"colour TINT": {"args": {"red": 9}}}), form, GROUPS)
    request = request_of(body, GROUPS, Choices())
    stamps, tint = request.extensions["Stamps"].model_dump(), request.extensions["Tint"].model_dump()
    assert (stamps["units"][1]["opacity"], stamps["units"][1]["edge"]["width"]) == (0.25, 3)
    assert stamps["units"][0]["opacity"] == 1.0
    assert tint["red"] == 9
