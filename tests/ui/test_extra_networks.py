"""The panes of cards in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, expect

from tests.browsing import Visit
from tests.services.test_cards import lora, picture
from tests.tiny import tiny_checkpoint
from tools.random_checkpoint import TINY
from webui.core.settings_table import SETTINGS
from webui.ui.extra_networks import ON_PAGE, TABS, tab_order

PROMPT, NEGATIVE = "#txt2img_prompt textarea", "#txt2img_neg_prompt textarea"
HOSTILE = "<img src=x onerror=window.hacked=1>"
MARKUP = "<i onclick=window.hacked=1>pen</i>"
FIRST_PAGE = 640_000
"""Bytes of HTML that the page may have with thousands of files; half of them are the panels of our own extensions."""


@pytest.fixture(scope="module")
def files(server: Any) -> Iterator[Path]:
    """130 LoRAs with notes on one, one embedding, and names that would like to be markup."""
    folder = server.data / "models" / "Lora"
    for number in range(127):
        lora(folder / "many" / f"style {number}.safetensors")
    lora(folder / f"{HOSTILE}.safetensors")
    lora(folder / "ink.safetensors", ss_tag_frequency='{"1_a": {"pen": 3}}')
    lora(folder / "people" / "anna.safetensors")
    notes = {"activation text": "inkpen", "negative text": "photo", "preferred weight": 0.7, "description": MARKUP}
    (folder / "ink.json").write_text(json.dumps(notes))
    (folder / "people" / "anna.png").write_bytes(picture())
    (folder / f"{HOSTILE}.png").write_bytes(b"<svg onload='window.hacked=1'>")
    lora(server.data / "embeddings" / "badhands.safetensors", width=TINY.text_width)
    for kind in ("lora", "textual_inversion"):
        answer = httpx.post(f"{server.url}/easel/v1/cards/refresh", json={"kind": kind}, timeout=60)
        answer.raise_for_status()
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (server.data / "embeddings" / "badhands.safetensors").unlink()


def show(visit: Visit, label: str) -> Locator:
    """Choose a tab; returns its cards."""
    visit.page.locator("#txt2img_extra_tabs > .tab-wrapper button[role=tab]", has_text=label).first.click()
    cards = visit.page.locator(f"#txt2img_{TABS[label]}_cards .card")
    expect(cards.first).to_be_visible()
    return cards


def card(visit: Visit, name: str, kind: str = "lora") -> Locator:
    visit.page.fill(f"#txt2img_{kind}_extra_search", name)
    found = visit.page.locator(f"#txt2img_{kind}_cards .card", has=visit.page.get_by_text(name, exact=True))
    expect(visit.page.locator(f"#txt2img_{kind}_cards .card")).to_have_count(1)
    return found


def test_cards_come_as_they_are_needed_and_are_searched(visit: Visit, files: Path) -> None:
    cards = show(visit, "Lora")
    first = cards.count()
    assert first < 130
    visit.page.locator("#txt2img_lora_pane .extra-network-scroll").evaluate("box => box.scrollTo(0, 1e6)")
    visit.page.wait_for_function(f"document.querySelectorAll('#txt2img_lora_cards .card').length > {first}")
    visit.page.fill("#txt2img_lora_extra_search", "STYLE 126")
    expect(cards).to_have_count(1)
    visit.page.fill("#txt2img_lora_extra_search", "no such thing")
    expect(visit.page.locator("#txt2img_lora_pane .extra-network-note")).to_have_text("Nothing matches.")
    visit.page.fill("#txt2img_lora_extra_search", "")
    visit.page.locator("#txt2img_lora_dirs button", has_text="people").click()
    expect(cards).to_have_count(1)
    visit.page.locator("#txt2img_lora_dirs button", has_text="all").click()
    visit.page.click("#txt2img_lora_extra_sort_name")
    visit.page.click("#txt2img_lora_extra_sort_dir")
    expect(cards.first.locator(".name")).to_have_text("style 126")
    assert [text for text in visit.complaints if "404" not in text] == []  # one preview is no picture


def test_a_click_puts_a_lora_into_the_prompts_and_another_takes_it_out(visit: Visit, files: Path) -> None:
    show(visit, "Lora")
    visit.page.fill(PROMPT, "a cat")
    ink = card(visit, "ink")
    ink.click()
    expect(visit.page.locator(PROMPT)).to_have_value("a cat <lora:ink:0.7> inkpen")
    expect(visit.page.locator(NEGATIVE)).to_have_value("photo")
    visit.page.fill(PROMPT, "a cat <lora:ink:0.35> inkpen, on a mat")
    ink.click()
    expect(visit.page.locator(PROMPT)).to_have_value("a cat, on a mat")
    expect(visit.page.locator(NEGATIVE)).to_have_value("")


def test_an_embedding_goes_into_the_prompt_that_was_typed_in(visit: Visit, files: Path) -> None:
    show(visit, "Textual Inversion")
    visit.page.fill(NEGATIVE, "blurry")
    found = card(visit, "badhands", "textual_inversion")
    visit.page.focus(NEGATIVE)
    found.click()
    expect(visit.page.locator(NEGATIVE)).to_have_value("blurry badhands")
    found.click()
    expect(visit.page.locator(NEGATIVE)).to_have_value("blurry")


def test_names_and_texts_of_files_are_never_markup(visit: Visit, files: Path) -> None:
    show(visit, "Lora")
    hostile = card(visit, HOSTILE)
    expect(hostile.locator(".name")).to_have_text(HOSTILE)
    visit.page.wait_for_timeout(300)  # its picture, which is none, is asked for
    hostile.locator(".edit-button").dispatch_event("click")
    expect(visit.page.locator(".card-dialog h3")).to_have_text(HOSTILE)
    visit.page.keyboard.press("Escape")
    expect(visit.page.locator(".card-dialog")).to_have_count(0)
    card(visit, "ink").locator(".metadata-button").dispatch_event("click")
    expect(visit.page.locator(".card-dialog pre")).to_contain_text('"pen": 3')
    visit.page.keyboard.press("Escape")
    card(visit, "ink").locator(".edit-button").dispatch_event("click")
    expect(visit.page.locator(".card-dialog textarea").first).to_have_value(MARKUP)
    assert visit.page.evaluate("window.hacked") is None


def test_notes_and_preview_are_edited_in_the_dialog(visit: Visit, files: Path) -> None:
    visit.generate("a preview", steps=1)
    show(visit, "Lora")
    card(visit, "anna").locator(".edit-button").dispatch_event("click")
    dialog = visit.page.locator(".card-dialog")
    dialog.get_by_label("Activation text").fill("anna <3")
    dialog.get_by_label("Preferred weight").fill("0.5")
    dialog.get_by_role("button", name="Replace preview").click()
    expect(dialog.locator(".edit-user-metadata-status")).to_contain_text("replaced")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    written = json.loads((files / "people" / "anna.json").read_text())
    assert (written["activation text"], written["preferred weight"]) == ("anna <3", 0.5)
    assert (files / "people" / "anna.png").read_bytes() != picture()
    visit.page.fill(PROMPT, "")
    card(visit, "anna").click()
    expect(visit.page.locator(PROMPT)).to_have_value("<lora:anna:0.5> anna <3")


def test_a_new_file_shows_itself(visit: Visit, files: Path) -> None:
    cards = show(visit, "Lora")
    visit.page.fill("#txt2img_lora_extra_search", "newcomer")
    expect(cards).to_have_count(0)
    lora(files / "newcomer.safetensors")
    expect(cards).to_have_count(1)


def test_a_new_checkpoint_shows_itself_and_its_card_chooses_it(visit: Visit, server: Any) -> None:
    show(visit, "Checkpoints")
    folder = server.data / "models" / "Stable-diffusion"
    tiny_checkpoint(folder, "fresh", seed=5)
    try:
        fresh = visit.page.locator("#txt2img_checkpoints_cards .card", has_text="fresh")
        fresh.click()
        chosen = visit.page.locator("#setting_sd_model_checkpoint input")
        expect(chosen).to_have_value(re.compile(r"^fresh\.safetensors"))
    finally:
        wanted = {"sd_model_checkpoint": "tiny"}
        httpx.post(f"{server.url}/sdapi/v1/options", json=wanted, timeout=60).raise_for_status()
        for path in folder.glob("fresh.*"):
            path.unlink()


def test_the_page_stays_small_however_many_files_there_are(server: Any, files: Path) -> None:
    page = httpx.get(server.url, timeout=60).text
    assert len(page.encode()) < FIRST_PAGE
    assert "style 12" not in page


def test_previews_are_pictures_or_nothing(server: Any, files: Path) -> None:
    def asked(name: str) -> httpx.Response:
        question = {"kind": "lora", "name": name}
        return httpx.get(f"{server.url}/easel/v1/cards/preview", params=question, timeout=60)

    assert asked("people/anna.safetensors").headers["content-type"] == "image/png"
    assert asked("people/anna.safetensors").headers["content-security-policy"].startswith("sandbox")
    assert asked(f"{HOSTILE}.safetensors").status_code == 404
    for outside in ("../../config.json", "people/anna.png", str(files / "people" / "anna.json")):
        assert asked(outside).status_code == 404


def test_every_setting_the_panes_obey_is_one() -> None:
    assert set(ON_PAGE) <= {setting.key for setting in SETTINGS}
    assert tab_order("lora, Checkpoints, nonsense")[:2] == ["Lora", "Checkpoints"]
    assert sorted(tab_order("lora")) == sorted(TABS)
