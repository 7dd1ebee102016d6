"""The user's own defaults, from ui-config.json as A1111 writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.components import Component
from playwright.sync_api import Browser, expect

from tests.api.server import serving
from tests.browsing import Visit
from webui.api.application import build_api
from webui.api.guard import Guard
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.ui.page import mount
from webui.ui.ui_config import UiConfig


def config(tmp_path: Path, **entries: Any) -> UiConfig:
    path = tmp_path / "ui-config.json"
    path.write_text(json.dumps({key.replace("__", "/"): value for key, value in entries.items()}))
    return UiConfig(path)


@pytest.fixture
def fields() -> dict[str, Component]:
    return {
        "steps": gr.Slider(1, 150, 20, step=1, label="Steps"),
        "sampler": gr.Dropdown(["Euler", "Heun"], value="Euler", label="Sampler"),
        "tiling": gr.Checkbox(False, label="Tiling"),
        "prompt": gr.Textbox(label="Prompt"),
    }


def test_defaults_and_ranges_are_taken(tmp_path: Path, fields: dict[str, Component]) -> None:
    entries = {
        "customscript__sampler.py__txt2img__Steps__value": 33,
        "txt2img__Steps__value": 44,
        "txt2img__Steps__maximum": 60,
        "txt2img__Sampler__value": "Heun",
        "txt2img__Tiling__value": True,
        "txt2img__Prompt__value": "masterpiece",
        "txt2img__Prompt__visible": False,
        "img2img__Tiling__value": False,
    }
    config(tmp_path, **entries).apply("txt2img", fields)
    assert [component.value for component in fields.values()] == [33, "Heun", True, "masterpiece"]
    assert fields["steps"].get_config()["maximum"] == 60
    assert fields["prompt"].visible == "hidden"


@pytest.mark.parametrize(
    "entries",
    [
        {"txt2img__Steps__value": 900},
        {"txt2img__Steps__value": "many"},
        {"txt2img__Sampler__value": "Nonsense"},
        {"txt2img__Sampler__value": ["Heun"]},
        {"txt2img__Tiling__value": 1},
        {"txt2img__Prompt__value": 3},
        {"txt2img__Steps__maximum": "x"},
        {"other__Steps__value": 5},
    ],
)
def test_what_does_not_fit_is_passed_over(
    entries: dict[str, Any], tmp_path: Path, fields: dict[str, Component]
) -> None:
    before = [component.get_config() for component in fields.values()]
    config(tmp_path, **entries).apply("txt2img", fields)
    assert [component.get_config() for component in fields.values()] == before


@pytest.mark.parametrize(("path", "label"), [("seed", "Seed"), ("variation.seed", "Variation seed")])
def test_a_seed_is_a_number_in_the_file_and_text_on_the_page(path: str, label: str, tmp_path: Path) -> None:
    box = gr.Textbox(value="-1", label=label)
    config(tmp_path, **{f"customscript/seed.py/txt2img/{label}/value": 3}).apply("txt2img", {path: box})
    assert box.value == "3"


def test_a_broken_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ui-config.json"
    path.write_text("{broken")
    assert UiConfig(path).get("txt2img", "steps", "Steps", "value") is None
    assert path.read_text() == "{broken"


def test_a_size_of_ones_own_goes_before_the_checkpoints(tmp_path: Path) -> None:
    usual = {"txt2img__Width__value": 512, "txt2img__Height__value": 512}
    assert config(tmp_path, **usual).size("txt2img", 1024) == (1024, 1024)
    assert config(tmp_path, **{**usual, "txt2img__Height__value": 768}).size("txt2img", 64) == (64, 768)


def test_a_cfg_scale_of_ones_own_goes_before_the_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "own"
    path.mkdir()
    assert config(tmp_path, **{"txt2img__CFG Scale__value": 7}).cfg_scale("txt2img", 5) == 5
    assert config(path, **{"txt2img__CFG Scale__value": 9}).cfg_scale("txt2img", 5) == 9


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    steps = {"customscript/sampler.py/txt2img/Sampling steps/value": 33, "txt2img/Width/value": 768}
    (tmp_path / "ui-config.json").write_text(json.dumps({**steps, "txt2img/Hires. fix/value": True}))
    services = build_services(parse_flags(["--data-dir", str(tmp_path)], {})[0])
    with serving(Guard(mount(build_api(services), services))) as url:
        visitor = Visit(browser, url)
        visitor.open()
        yield visitor
        visitor.close()
    services.checkpoints.close()


def test_the_page_shows_them(visit: Visit) -> None:
    visit.expect_numbers("txt2img", steps=33, width=768)
    expect(visit.page.locator("#txt2img_hr-checkbox input")).to_be_checked()
