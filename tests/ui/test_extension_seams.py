"""What the fixtures' extensions change on the page, in a real browser; all share one server.

Each is written against webui.extensions.api alone.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.browsing import Visit
from tests.fixture_extensions import FIXTURES
from tests.running import Server
from tests.tiny import tiny_checkpoint
from webui.core.pictures import encode_image
from webui.extensions.page import SLOTS

NAMES = sorted(folder.name for folder in FIXTURES.iterdir() if folder.is_dir())


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with all fixtures, in the language of one of them."""
    data = tmp_path_factory.mktemp("extended")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    shutil.copytree(FIXTURES, data / "extensions", ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "slots", data / "extensions" / "slots")
    (data / "config.json").write_text(json.dumps({"localization": "test_EO", "interrupt_after_current": False}))
    running = Server(data)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def page_of_all(browser: Browser, extended: Server) -> Iterator[Visit]:
    """One page that the tests share; each uses parts of its own."""
    visitor = Visit(browser, extended.url)
    visitor.open()
    yield visitor
    visitor.context.close()


def picture_of(visit: Visit, tab: str = "txt2img") -> Image.Image:
    """The picture in a tab's gallery."""
    visit.picture_width(tab)
    url = visit.page.locator(f"#{tab}_gallery img[data-testid=detailed-image]").get_attribute("src")
    assert url is not None
    answer = visit.context.request.get(url if "://" in url else f"{visit.url}{url}")  # others don't get it
    return Image.open(io.BytesIO(answer.body()))


def png(colour: str) -> bytes:
    return encode_image(Image.new("RGB", (16, 16), colour), "png", None)


@pytest.mark.parametrize("name", NAMES)
def test_fixtures_import_nothing_of_easel_but_the_api(name: str) -> None:
    for file in (FIXTURES / name).rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert {module for module in imported if module.startswith("webui")} <= {"webui.extensions.api"}


def test_nothing_is_complained_about(page_of_all: Visit) -> None:
    assert page_of_all.complaints == []
    told = page_of_all.page.locator("#easel_hint").inner_text()
    assert [name for name in NAMES if f'"{name}"' in told] == []


def test_every_slot_is_on_both_tabs_in_a1111s_order(page_of_all: Visit) -> None:
    for tab in ("txt2img", "img2img"):
        page_of_all.page.click(f"#tab_{tab}-button")  # a tab is built when it is opened for the first time
        page_of_all.page.wait_for_selector(f"#{tab}_seed", state="attached")
        marks = page_of_all.page.evaluate(
            "tab => [...document.querySelectorAll(`#tab_${tab} [id^='${tab}_Slot']`)]"
            ".map(element => element.id).filter(id => id.endsWith('_mark'))",
            tab,
        )
        assert marks == [f"{tab}_Slot{slot.title().replace('_', '')}_mark" for slot in SLOTS]


def test_units_take_pictures_and_come_back_from_the_infotext(page_of_all: Visit, tmp_path: Path) -> None:
    visit, page = page_of_all, page_of_all.page
    page.click("#tab_txt2img-button")
    page.locator("#txt2img_extension_Stamps").get_by_role("button", name="Stamp collection").click()
    page.click("#txt2img_Stamps_units_1-button")
    (tmp_path / "red.png").write_bytes(png("red"))
    page.set_input_files("#txt2img_Stamps_units_1_image input[type=file]", tmp_path / "red.png")
    page.wait_for_selector("#txt2img_Stamps_units_1_image img")
    page.check("#txt2img_Stamps_units_1_enabled input")
    visit.set_number("txt2img_Stamps_units_1_opacity", 1)
    page.fill("#txt2img_Stamps_units_1_words textarea", 'one, "two": three')
    visit.generate("stamped", steps=1, width=64, height=64)
    assert picture_of(visit).convert("RGB").getpixel((4, 4)) == (255, 0, 0)
    expect(page.locator("#html_info_txt2img")).to_contain_text("Stamp 1: ")
    infotext = page.locator("#html_info_txt2img").inner_text()
    page.fill("#txt2img_Stamps_units_1_words textarea", "")
    visit.set_number("txt2img_Stamps_units_1_opacity", 0.5)
    page.fill("#txt2img_prompt textarea", infotext)
    page.click("#paste")
    expect(page.locator("#txt2img_Stamps_units_1_words textarea")).to_have_value('one, "two": three')
    assert visit.number("txt2img_Stamps_units_1_opacity") == 1
    page.uncheck("#txt2img_Stamps_units_1_enabled input")


def test_a_panel_laid_out_by_hand_is_on_both_tabs_and_counts(page_of_all: Visit) -> None:
    visit, page = page_of_all, page_of_all.page
    for tab in ("img2img", "txt2img"):
        page.click(f"#tab_{tab}-button")
        expect(page.locator(f"#tab_{tab} #{tab}_border_row input[type=number]")).to_have_count(2)  # as the setting says
        expect(page.locator(f"#{tab}_extension_Border")).to_have_count(0)
    page.check("#txt2img_border_enabled input")
    visit.set_number("txt2img_width", 64)
    page.click("#txt2img_Border_eighth")
    visit.generate("bordered", steps=1, height=64)
    picture = picture_of(visit).convert("RGB")
    assert picture.size == (64, 64)
    assert {picture.getpixel((x, 32)) for x in range(8)} == {(0, 0, 0)}
    expect(page.locator("#html_info_txt2img")).to_contain_text("Border side 0: ")
    page.uncheck("#txt2img_border_enabled input")


def test_a_component_of_ones_own_works(page_of_all: Visit) -> None:
    visit, page = page_of_all, page_of_all.page
    page.click("#tab_txt2img-button")
    page.locator("#txt2img_Rating_stars").get_by_role("button", name="3 stars").click()
    visit.generate("rated", steps=1, width=64, height=64)
    picture = picture_of(visit).convert("RGB")
    assert [picture.getpixel((x, 0)) == (255, 255, 255) for x in (0, 4, 8, 12)] == [True, True, True, False]
    expect(page.locator("#html_info_txt2img")).to_contain_text("Rating: 3")
    page.fill("#txt2img_prompt textarea", "x\nSteps: 1, Seed: 1, Size: 64x64, Rating: 5")
    page.click("#paste")
    expect(page.locator("#txt2img_Rating_stars")).to_have_attribute("data-value", "5")
    page.fill("#txt2img_prompt textarea", "x\nSteps: 1, Seed: 1, Size: 64x64, Rating: 0")
    page.click("#paste")
    expect(page.locator("#txt2img_Rating_stars")).to_have_attribute("data-value", "0")


def test_a_tab_of_the_pages_own_pieces_makes_pictures(page_of_all: Visit) -> None:
    visit, page = page_of_all, page_of_all.page
    page.click("#tab_rounds-button")
    page.click("#rounds_generate")
    expect(page.locator("#html_log_rounds")).to_contain_text("Write a prompt first.")
    page.fill("#rounds_prompt textarea", "round and round")
    for name, value in (("steps", 1), ("width", 64), ("height", 64), ("pictures", 3)):
        visit.set_number(f"rounds_{name}", value)
    with visit.job("rounds"):
        page.click("#rounds_generate")
    expect(page.locator("#html_info_rounds")).to_contain_text("round and round")
    expect(page.locator("#rounds_gallery .thumbnails button.thumbnail-item")).to_have_count(4)  # the grid, too
    expect(page.locator("#rounds_Rating_stars")).to_be_visible()  # panels of others are on its form, too


def test_a_tab_shows_progress_and_its_job_is_interrupted(page_of_all: Visit) -> None:
    visit, page = page_of_all, page_of_all.page
    page.click("#tab_rounds-button")
    page.fill("#rounds_prompt textarea", "for long")
    visit.set_number("rounds_steps", 150)
    visit.set_number("rounds_pictures", 8)
    with visit.job("rounds"):
        page.click("#rounds_generate")
        page.wait_for_selector("#rounds_gallery_container .progressDiv")
        visit.wait_for_steps()
        page.click("#rounds_interrupt")
    page.wait_for_selector("#rounds_generate")


def test_scripts_styles_and_translations_are_on_the_page(page_of_all: Visit) -> None:
    page = page_of_all.page
    assert page.evaluate("document.documentElement.dataset.marked") == "yes"
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--easel-mark')") == "7px"
    page.wait_for_function("document.querySelector('#txt2img_generate').textContent.trim() === 'Generi'")
    expect(page.locator("#txt2img_steps")).to_contain_text("Paŝoj")
    served = httpx.get(f"{page_of_all.url}/extension-assets/page-assets/extension.py", timeout=60)
    assert served.status_code == 404  # only what was registered


def test_the_api_serves_the_groups_by_class_and_title(extended: Server) -> None:
    unit = {"enabled": True, "image": base64.b64encode(png("lime")).decode(), "places": ["right"]}
    scripts = {
        "stamp collection": {"args": [unit]},
        "TINT": {"args": [None, True, 0, 0, 255]},
        "rating": {"args": {"stars": 2}},
    }
    answer = extended.txt2img(alwayson_scripts=scripts)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    info = json.loads(content["info"])
    assert 'Stamp 0: "Enabled: True' in info["infotexts"][0]
    assert "Tint: 0/0/255" in info["infotexts"][0]
    picture = Image.open(io.BytesIO(base64.b64decode(content["images"][0]))).convert("RGB")
    assert picture.getpixel((60, 8))[1] == 255  # type: ignore[index]
    assert {picture.getpixel((x, 40))[2] for x in range(0, 64, 8)} == {255}  # type: ignore[index]


def test_what_an_old_payload_has_too_much_is_named_in_a_comment(extended: Server) -> None:
    answer = extended.txt2img(alwayson_scripts={"Tint": {"args": {"gamma": 2}}})
    assert json.loads(answer.json()["info"])["comments"] == ['Colour tint has no parameter "gamma"; it was ignored.']
