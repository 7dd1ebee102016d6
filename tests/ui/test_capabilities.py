"""Controls follow what the checkpoint in use can do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browsing import Visit
from tests.tiny import NATIVE_SIZE
from tests.ui.test_quicksettings import choose, use_tiny
from tools.random_checkpoint import TINY, TINY_SIZES, write_checkpoint

SAMPLER = "#txt2img_sampling input"
IMAGE_SCALE = "#img2img_image_cfg_scale"


@pytest.fixture
def models(server: Any) -> Iterator[None]:
    """A flow and an instruct-pix2pix model beside the usual one; gone afterwards."""
    folder = server.data / "models" / "Stable-diffusion"
    use_tiny(server)
    flow, edit = folder / "flowing.safetensors", folder / "edits.safetensors"
    write_checkpoint(flow, TINY_SIZES["sd3"], metadata={"easel": json.dumps({"native_size": NATIVE_SIZE})})
    write_checkpoint(edit, replace(TINY, in_channels=8))
    yield
    use_tiny(server)
    for path in (flow, edit, edit.with_suffix(".yaml")):
        path.unlink()


def test_samplers_and_the_image_scale_follow_the_checkpoint(visit: Visit, models: None) -> None:
    page = visit.page
    page.click("#refresh_sd_model_checkpoint")
    page.click(SAMPLER)
    page.get_by_role("option", name="Euler a", exact=True).click()
    choose(visit, "flowing")
    expect(page.locator(SAMPLER)).not_to_have_value("Euler a")
    page.click(SAMPLER)
    expect(page.get_by_role("option", name="Euler", exact=True)).to_be_visible()
    expect(page.get_by_role("option", name="DDIM", exact=True)).to_have_count(0)
    page.keyboard.press("Escape")
    visit.generate("flow", steps=1)
    expect(page.locator("#html_info_txt2img")).to_contain_text("Model: flowing")

    page.click("#tab_img2img-button")
    expect(page.locator(IMAGE_SCALE)).to_be_hidden()
    choose(visit, "edits")
    expect(page.locator(IMAGE_SCALE)).to_be_visible()
    choose(visit, "tiny")
    expect(page.locator(IMAGE_SCALE)).to_be_hidden()
    page.click("#tab_txt2img-button")
    page.click(SAMPLER)
    expect(page.get_by_role("option", name=re.compile("^DDIM$"))).to_be_visible()
