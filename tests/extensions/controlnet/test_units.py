"""What clients send and what a picture's text tells, and back."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from extensions.controlnet.units import ControlNet, Unit, read, told

PICTURE = base64.b64encode(b"picture").decode()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"image": {"image": PICTURE, "mask": "m"}}, {"image": PICTURE, "mask": "m"}),
        ({"image": [PICTURE, "m"]}, {"image": PICTURE, "mask": "m"}),
        ({"image": [{"image": PICTURE}]}, {"image": PICTURE}),
        (
            {"input_image": PICTURE, "lowvram": True, "guidance": 0.5},
            {"image": PICTURE, "low_vram": True, "guidance_end": 0.5},
        ),
        ({"resize_mode": 2}, {"resize_mode": "Resize and Fill"}),
        ({"resize_mode": "Scale to Fit (Inner Fit)"}, {"resize_mode": "Crop and Resize"}),
        ({"control_mode": 2}, {"control_mode": "ControlNet is more important"}),
        ({"advanced_weighting": [0, 0.5]}, {"advanced_weighting": "0, 0.5"}),
        ({"mask": None, "file": "/etc/passwd", "weights_at": "/etc/passwd"}, {}),
    ],
)  # fmt: skip
def test_old_forms_are_read(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert dict(Unit.from_api(given)) == wanted


EACH = "Each ControlNet unit for each image in a batch"


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([], {"units": []}),
        ([{}], {"units": [{}]}),
        ([{}, {}, EACH], {"units": [{}, {}], "batch_option": EACH}),
        ([[{}, {}], EACH, True], {"units": [{}, {}], "batch_option": EACH, "style_align": True}),
    ],
)
def test_arguments_in_order(args: list[Any], wanted: dict[str, Any]) -> None:
    assert dict(ControlNet.from_api(args)) == wanted


@pytest.mark.parametrize(
    "unit",
    [
        Unit(enabled=True),
        Unit(enabled=True, module="canny", threshold_a=50, threshold_b=120, processor_res=128),
        Unit(enabled=True, module="invert", model="a, b: c [0123abcd]", weight=1.6),
        Unit(enabled=True, module="blur_gaussian", threshold_a=3.5, pixel_perfect=True, resize_mode="Just Resize"),
        Unit(enabled=True, guidance_start=0.25, guidance_end=0.5, control_mode="My prompt is more important"),
    ],
)
def test_a_unit_is_read_back_from_the_text(unit: Unit) -> None:
    again = Unit(**read(told(unit)))
    assert told(again) == told(unit)
    assert (again.module, again.model, again.weight, again.pixel_perfect) == (
        unit.module, unit.model, unit.weight, unit.pixel_perfect,
    )  # fmt: skip


def test_enabled_units_are_counted_without_the_others() -> None:
    group = ControlNet(units=(Unit(), Unit(enabled=True, model="b"), Unit(enabled=True, model="c")))
    texts = group.to_infotext()
    assert list(texts) == ["ControlNet 0", "ControlNet 1"]
    found = ControlNet.from_infotext(texts)
    assert (found["units.0.model"], found["units.1.model"], found["units.0.enabled"]) == ("b", "c", True)
