"""The page in a real browser: what is on it, and that it keeps to itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from PIL import Image
from playwright.sync_api import expect

from tests.browsing import Visit
from webui.core.pictures import encode_image

TABS = [
    *("txt2img", "img2img", "Extras", "PNG Info", "Checkpoint Merger", "Train", "Settings", "Extensions", "Gallery"),
    *("Queue", "Deforum", "mov2mov"),
]
SUBTABS = ["Generation", "Textual Inversion", "Hypernetworks", "Checkpoints", "Lora"]

A1111_IDS = (Path(__file__).parents[1] / "fixtures" / "ui" / "a1111-element-ids.txt").read_text().split()


def test_tabs_stand_in_a1111s_order(visit: Visit) -> None:
    buttons = visit.page.locator("#tabs > .tab-wrapper button[role=tab]")
    names = [name.strip() for name in buttons.all_inner_texts() if name.strip()]
    assert list(dict.fromkeys(names)) == TABS
    inner = visit.page.locator("#txt2img_extra_tabs > .tab-wrapper button[role=tab]").all_inner_texts()
    assert list(dict.fromkeys(name.strip() for name in inner if name.strip())) == SUBTABS


def test_elements_have_a1111s_ids(visit: Visit) -> None:
    counts = visit.page.evaluate("ids => ids.map(id => document.querySelectorAll(`[id='${id}']`).length)", A1111_IDS)
    found = dict(zip(A1111_IDS, counts, strict=True))
    assert {name: count for name, count in found.items() if count != 1} == {}


def test_every_button_with_a_symbol_says_what_it_does(visit: Visit) -> None:
    for tab, last in {"img2img": "img2img_styles_edit_button", "extras": "extras_send_to_extras"}.items():
        visit.page.click(f"#tab_{tab}-button")
        visit.page.wait_for_selector(f"#{last}")
    visit.page.click("#tab_modelmerger-button")
    visit.page.wait_for_selector("#refresh_checkpoint_A")
    silent = "button.tool:not([title][aria-label]), .input-accordion-arrow:not([title][aria-label])"
    expect(visit.page.locator(silent)).to_have_count(0)
    sized = visit.page.locator("#img2img_detect_image_size_btn").get_attribute("title")
    assert "Set width and height" in str(sized)


def test_the_extensions_tab_lists_what_is_loaded(visit: Visit) -> None:
    visit.page.click("#tab_extensions-button")
    expect(visit.page.locator("#extensions_installed_html")).to_contain_text("seamless-tiling")


def test_no_request_leaves_the_host_and_nothing_is_complained_about(visit: Visit) -> None:
    visit.page.wait_for_timeout(500)
    hosts = {urlsplit(url).netloc for url in visit.requests if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
    assert hosts == {urlsplit(visit.url).netloc}
    assert visit.complaints == []


def test_the_footer_tells_the_versions(visit: Visit) -> None:
    text = visit.page.locator("#footer").inner_text()
    assert re.search(r"version: \d+\.\d+\.\d+.*python: 3\..*torch: .*gradio: 6\..*checkpoint: \S+", text)
    assert visit.page.locator("#footer a", has_text="API").get_attribute("href") == "docs"


def test_the_size_is_the_checkpoints_own(visit: Visit) -> None:
    assert visit.number("txt2img_width") == visit.number("txt2img_height") < 512


def test_building_the_page_imports_no_torch() -> None:
    code = """
import sys
from webui.ui import page
assert "gradio" in sys.modules
print(sorted(name for name in ("torch", "diffusers", "transformers") if name in sys.modules))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_png_info_reads_a_picture_and_sends_it_to_txt2img(visit: Visit, tmp_path: Path) -> None:
    infotext = "a <i>hat</i>\nSteps: 9, Sampler: Heun, CFG scale: 3, Seed: 4, Size: 64x128"
    path = tmp_path / "hat.png"
    path.write_bytes(encode_image(Image.new("RGB", (8, 8)), "png", infotext, {"note": "<b>x</b>"}))
    visit.page.click("#tab_pnginfo-button")
    visit.page.set_input_files("#pnginfo_image input[type=file]", path)
    expect(visit.page.locator("#html_info_pnginfo")).to_contain_text("a <i>hat</i>")
    expect(visit.page.locator("#html_info_pnginfo")).to_contain_text("<b>x</b>")
    expect(visit.page.locator("#html_info_pnginfo .reproduce summary")).to_contain_text("Checkpoint")
    visit.page.click("#txt2img_tab")
    expect(visit.page.locator("#txt2img_prompt textarea")).to_be_visible()
    expect(visit.page.locator("#txt2img_prompt textarea")).to_have_value("a <i>hat</i>")
    visit.expect_numbers("txt2img", steps=9)


def test_a_visitor_quicker_than_the_load_event_has_the_native_size(visit: Visit) -> None:
    config = httpx.get(f"{visit.url}/config", timeout=60).json()
    begun = {part["props"].get("elem_id"): part["props"].get("value") for part in config["components"]}
    sizes = [begun[f"{tab}_{side}"] for tab in ("txt2img", "img2img") for side in ("width", "height")]
    assert sizes == [visit.number("txt2img_width")] * 4
    assert 512 not in sizes
