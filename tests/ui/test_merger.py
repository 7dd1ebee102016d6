"""The Checkpoint Merger tab in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browsing import Visit
from tests.tiny import tiny_checkpoint
from webui.catalog.safetensors_header import read_header

RESULT = "#modelmerger_result"
A1111_IDS = tuple(
    f"modelmerger_{name}"
    for name in (
        *("interp_description", "models", "primary_model_name", "secondary_model_name", "tertiary_model_name"),
        *("custom_name", "interp_amount", "interp_method", "checkpoint_format", "save_as_half", "config_method"),
        *("bake_in_vae", "refresh_bake_in_vae", "discard_weights", "save_metadata", "add_recipe", "copy_metadata"),
        *("merge", "results_container", "results_panel", "result"),
    )
) + ("refresh_checkpoint_A", "refresh_checkpoint_B", "refresh_checkpoint_C")


def list_of(model: str) -> str:
    return f"#modelmerger_{model}_model_name input"


def named(name: str) -> re.Pattern[str]:
    return re.compile(rf"^{name}\.safetensors")


@pytest.fixture
def merger(visit: Visit, server: Any) -> Iterator[Visit]:
    """The tab, opened, with a second checkpoint that is gone afterwards, as is what was merged."""
    folder = server.data / "models" / "Stable-diffusion"
    before = set(folder.iterdir())
    tiny_checkpoint(folder, "other", seed=5)
    visit.page.click("#tab_modelmerger-button")
    visit.page.click("#refresh_checkpoint_A")  # brings all lists up to date
    for model in ("primary", "secondary"):
        visit.open_list(list_of(model), named("other"))
        visit.page.locator(list_of(model)).blur()
    yield visit
    for path in set(folder.iterdir()) - before:
        path.unlink()


def choose(visit: Visit, model: str, name: str) -> None:
    visit.choose(list_of(model), named(name))


def test_elements_have_a1111s_ids(merger: Visit) -> None:
    merger.page.locator("#tab_modelmerger").get_by_role("button", name="Metadata").first.click()
    merger.page.wait_for_selector("#modelmerger_copy_metadata")
    counts = merger.page.evaluate("ids => ids.map(id => document.querySelectorAll(`[id='${id}']`).length)", A1111_IDS)
    found = dict(zip(A1111_IDS, counts, strict=True))
    assert {name: count for name, count in found.items() if count != 1} == {}


def test_two_checkpoints_are_merged_and_a_file_is_not_replaced_unasked(merger: Visit, server: Any) -> None:
    page = merger.page
    page.click("#modelmerger_merge")
    expect(page.locator(RESULT)).to_contain_text("Merging requires a primary model")
    choose(merger, "primary", "tiny")
    choose(merger, "secondary", "other")
    merger.set_number("modelmerger_interp_amount", 0.5)
    page.fill("#modelmerger_custom_name textarea, #modelmerger_custom_name input", "blend")
    page.click("#modelmerger_merge")
    expect(page.locator(RESULT)).to_contain_text("Checkpoint saved to")
    made = server.data / "models" / "Stable-diffusion" / "blend.safetensors"
    assert '"multiplier": 0.5' in read_header(made).metadata["sd_merge_recipe"]
    page.click("#modelmerger_merge")
    expect(page.locator(RESULT)).to_contain_text("There is a blend.safetensors already")
    page.click("#modelmerger_overwrite input")
    page.click("#modelmerger_merge")
    expect(page.locator(RESULT)).to_contain_text("Checkpoint saved to")
    expect(page.locator("#modelmerger_overwrite")).to_be_hidden()
    assert merger.complaints == []


def test_the_explanation_follows_the_method(merger: Visit) -> None:
    merger.page.click("#modelmerger_interp_method >> text=Add difference")
    expect(merger.page.locator("#modelmerger_interp_description")).to_contain_text("(B - C) * M")
