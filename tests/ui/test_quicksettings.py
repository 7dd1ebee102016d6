"""The checkpoint list above the tabs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.browsing import Visit
from tests.tiny import NATIVE_SIZE, tiny_checkpoint

LIST = "#setting_sd_model_checkpoint input"
TOAST = ".toast-wrap"


def use_tiny(server: Any) -> None:
    httpx.post(f"{server.url}/sdapi/v1/options", json={"sd_model_checkpoint": "tiny"}, timeout=60).raise_for_status()


@pytest.fixture
def models(server: Any) -> Iterator[None]:
    """A second good checkpoint of another size, and a broken one; gone afterwards."""
    folder = server.data / "models" / "Stable-diffusion"
    use_tiny(server)
    second = tiny_checkpoint(folder, "wide", seed=3, native_size=2 * NATIVE_SIZE, cfg_scale=4.5)
    broken = folder / "broken.safetensors"
    broken.write_bytes(b"not a model at all")
    yield
    use_tiny(server)
    for path in (second, second.with_suffix(".yaml"), broken):
        path.unlink()


def choose(visit: Visit, name: str) -> None:
    visit.choose(LIST, re.compile(f"^{name}"))


def test_a_new_file_appears_after_refresh_and_loads_at_once(visit: Visit, models: None) -> None:
    visit.page.click("#refresh_sd_model_checkpoint")
    choose(visit, "wide")
    expect(visit.page.locator("#txt2img_width input[type=number]")).to_have_value(str(2 * NATIVE_SIZE))
    visit.expect_numbers("txt2img", cfg_scale=4.5)
    visit.generate("wide", steps=1)
    assert visit.picture_width() == 2 * NATIVE_SIZE
    expect(visit.page.locator("#html_info_txt2img")).to_contain_text("Model: wide")
    choose(visit, "tiny")
    expect(visit.page.locator("#txt2img_width input[type=number]")).to_have_value(str(NATIVE_SIZE))
    visit.expect_numbers("txt2img", cfg_scale=7)
    visit.set_number("txt2img_cfg_scale", 6)
    choose(visit, "wide")
    expect(visit.page.locator("#txt2img_width input[type=number]")).to_have_value(str(2 * NATIVE_SIZE))
    visit.expect_numbers("txt2img", cfg_scale=6)  # the user's own stays
    choose(visit, "tiny")
    expect(visit.page.locator("#txt2img_width input[type=number]")).to_have_value(str(NATIVE_SIZE))


def test_a_broken_file_is_told_in_a_sentence_and_the_loaded_model_stays(visit: Visit, models: None) -> None:
    visit.generate("before", steps=1)
    visit.page.click("#refresh_sd_model_checkpoint")
    choose(visit, "broken")
    expect(visit.page.locator(TOAST)).to_contain_text("broken.safetensors")
    expect(visit.page.locator(LIST)).to_have_value(re.compile("^tiny"))
    visit.generate("after", steps=1)
    expect(visit.page.locator("#html_info_txt2img")).to_contain_text("after")


def test_a_name_that_matches_nothing_is_told(visit: Visit, models: None) -> None:
    visit.page.fill(LIST, "no such model")
    visit.page.press(LIST, "Enter")
    expect(visit.page.locator(TOAST)).to_contain_text('No checkpoint matches "no such model"')
    expect(visit.page.locator(LIST)).to_have_value(re.compile("^tiny"))
