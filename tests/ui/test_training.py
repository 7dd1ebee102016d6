"""The Train tab in a browser: from a folder of pictures to a LoRA that is on a card."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browsing import Visit

SMALL = {
    "lora_form_data_resolution": "64",
    "lora_form_data_min_bucket_reso": "64",
    "lora_form_data_every_num_repeats": "1",
    "lora_form_optimization_max_train_epochs": "2",
    "lora_form_saving_save_every_n_epochs": "1",
    "lora_form_numerics_max_token_length": "75",
    "lora_form_lora_network_dim": "2",
}
"""What makes a training of a moment of the preset."""


@pytest.fixture
def pictures(server: Any) -> Iterator[Path]:
    folder = server.data / "pictures to learn"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (72, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    (folder / "0.txt").write_text("a red hat")
    yield folder
    shutil.rmtree(folder)
    for file in (server.data / "models" / "Lora").glob("sks*"):
        file.unlink()


def open_pane(visit: Visit, name: str) -> Page:
    page = visit.page
    page.get_by_role("tab", name="Train", exact=True).first.click()
    page.wait_for_selector("#train_tabs")
    page.locator("#train_tabs").get_by_role("tab", name=name, exact=True).click()
    return page


def set_small(page: Page) -> None:
    """Every section is opened, and the fields are filled as a user would."""
    for section in page.locator(".train-pane:not([hidden]) details").all():
        section.evaluate("section => { section.open = true; }")
    for name, value in SMALL.items():
        field = page.locator(f"#train_{name}")
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)


def test_from_a_folder_to_a_lora_on_a_card(visit: Visit, pictures: Path, server: Any) -> None:
    page = open_pane(visit, "LoRA")
    page.fill("#train_lora_folder", str(pictures))
    page.fill("#train_lora_trigger", "sks thing")
    facts = page.locator("#train_lora_facts")
    expect(facts).to_contain_text("3, 3 with a caption")
    expect(facts).to_contain_text("sks thing.safetensors")
    set_small(page)
    expect(facts).to_contain_text("3 pictures in ")
    expect(facts).to_contain_text("Steps2")
    with visit.job("ti"):
        page.click("#train_lora_start")
    result = re.compile(r"sks thing\.safetensors is trained: 2 steps")
    expect(page.locator("#ti_output")).to_have_value(result)
    words = re.compile(r"^Step 2: [\d.e-]+, smoothed [\d.e-]+$")
    expect(page.locator("#train_curve_words")).to_have_text(words)
    page.select_option("#train_curve", label="Learning rate")
    expect(page.locator("#train_curve_words")).to_have_text("Step 2: 0.0001, smoothed 0.0001")
    assert page.locator("#train_plot polyline.raw").get_attribute("points").count(",") == 2
    visit.reload()
    open_pane(visit, "LoRA")
    expect(page.locator("#train_curve_words")).to_have_text(words)
    expect(page.locator("#ti_output")).to_have_value(result)
    folder = server.data / "models" / "Lora"
    assert sorted(file.name for file in folder.glob("sks*.safetensors")) == [
        "sks thing-000001.safetensors",
        "sks thing.safetensors",
    ]
    page.get_by_role("tab", name="txt2img", exact=True).first.click()
    page.get_by_role("tab", name="Lora", exact=True).first.click()
    expect(page.locator("#txt2img_lora_cards .card", has_text="sks thing").first).to_be_visible()
    assert visit.complaints == []


def test_captions_are_edited_together_beside_their_pictures(visit: Visit, pictures: Path) -> None:
    page = open_pane(visit, "Captions")
    page.fill("#captions_folder", str(pictures))
    page.click("#captions_open")
    expect(page.locator("#captions_note")).to_have_text("3 pictures, 2 without a caption.")
    page.wait_for_function("document.querySelector('#captions_list img')?.naturalWidth > 0")
    page.fill("#captions_search", "red")
    expect(page.locator("#captions_list figure:visible")).to_have_count(1)
    page.fill("#captions_old", "red")
    page.fill("#captions_new", "blue")
    page.click("#captions_replace")
    page.fill("#captions_search", "")
    page.fill("#captions_front", "sks,")
    page.click("#captions_prepend")
    page.get_by_label("Caption of 2.png").fill("<b>sks</b> alone")
    page.click("#captions_save")
    expect(page.locator("#captions_note")).to_have_text("3 captions are saved.")
    told = [(pictures / f"{number}.txt").read_text() for number in range(3)]
    assert told == ["sks, a blue hat", "sks,", "<b>sks</b> alone"]
    page.click("#captions_open")
    expect(page.get_by_label("Caption of 2.png")).to_have_value("<b>sks</b> alone")
    assert visit.complaints == []


def test_kohyas_file_fills_the_form_and_mistakes_are_told_in_place(
    visit: Visit, pictures: Path, tmp_path: Path
) -> None:
    page = open_pane(visit, "LoRA")
    page.fill("#train_lora_folder", "/nowhere at all")
    facts = page.locator("#train_lora_facts")
    expect(facts.locator(".error")).to_contain_text('There is no folder "/nowhere at all"')
    page.fill("#train_lora_folder", "")
    page.click("#train_lora_start")
    expect(page.locator("#ti_error .error")).to_have_text("Name the folder with the pictures to train on.")
    file = tmp_path / "kohya.toml"
    file.write_text(
        f"network_dim = 7\n[[datasets]]\nresolution = 64\nmin_bucket_reso = 64\n"
        f"[[datasets.subsets]]\nimage_dir = '{pictures}'\nnum_repeats = 5\n"
    )
    page.set_input_files("#train_lora_toml_file", file)
    expect(facts).to_contain_text("1 folders are taken from the file")
    expect(page.locator("#train_lora_form_lora_network_dim")).to_have_value("7")
    page.click("#train_lora_look")
    expect(facts).to_contain_text("15 pictures in ")
    with page.expect_download() as saved:
        page.fill("#train_lora_name", "mine")
        page.click("#train_lora_toml_export")
    assert saved.value.suggested_filename in ("mine.toml", "mine-dataset.toml")


def test_the_page_keeps_nothing_of_the_tab_until_it_is_opened(visit: Visit) -> None:
    assert visit.page.locator("#train_tabs").count() == 0
    assert not [url for url in visit.requests if "/easel/v1/training" in url]
    page = open_pane(visit, "Train")
    expect(page.locator("#train_dataset_directory")).to_be_visible()
    expect(page.locator("#train_steps")).to_have_value("100000")
    page.click("#train_train_embedding")
    expect(page.locator("#ti_error .error")).to_contain_text("Choose the embedding to train")
