"""The full-window viewer of a gallery's pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from tests.browsing import Visit
from webui.core.pictures import encode_image

DETAIL = "#txt2img_gallery img[data-testid=detailed-image]"
INSIDE = "document.activeElement === document.body || lightboxModal.contains(document.activeElement)"
SIZE = "() => { const {width, height} = modalImage.getBoundingClientRect(); return [width, height]; }"


@pytest.fixture
def three(visit: Visit) -> Visit:
    """A page with a grid and two pictures of 64 x 64."""
    visit.generate("viewed", steps=1, batch_count=2, seed=5, width=64, height=64)
    visit.picture_width()
    return visit


def opened(visit: Visit, picture: str = DETAIL) -> Locator:
    visit.page.click(picture)
    viewer = visit.page.locator("#lightboxModal")
    expect(viewer).to_be_visible()
    visit.page.wait_for_function("modalImage.complete && modalImage.naturalWidth > 0 && modalImage.style.transform")
    return viewer


def source(visit: Visit) -> str:
    return str(visit.page.evaluate("modalImage.src"))


def size(visit: Visit) -> tuple[float, float]:
    width, height = visit.page.evaluate(SIZE)
    return round(width), round(height)


def test_it_fills_the_window_and_escape_returns_to_the_gallery(three: Visit) -> None:
    page = three.page
    viewer = opened(three)
    assert viewer.bounding_box() == {"x": 0, "y": 0, "width": 1600, "height": 1100}
    assert source(three) == page.locator(DETAIL).get_attribute("src")
    assert max(size(three)) == 1100 or size(three)[0] == 1600
    assert viewer.get_attribute("aria-label")
    for button in viewer.locator("button").all():
        assert button.get_attribute("aria-label")
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(INSIDE)
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    assert page.evaluate("document.activeElement.closest('#txt2img_gallery') !== null")
    assert three.complaints == []


def test_arrows_show_the_gallerys_next_picture_and_s_saves_it(three: Visit, server: Any) -> None:
    page = three.page
    viewer = opened(three)
    grid = source(three)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    expect(page.locator("#html_info_txt2img")).to_contain_text("Seed: 6,")
    expect(viewer.locator("#modalNote")).to_contain_text("Saved:")
    saved = viewer.locator("#modalNote").inner_text().removeprefix("Saved: ").split(",")[0]
    assert "-6" in saved
    assert (server.data / "log" / "images" / saved).is_file()
    last = source(three)
    page.click("#modalNext")
    page.wait_for_function("src => modalImage.src === src", arg=grid)
    page.click("#modalPrev")
    page.wait_for_function("src => modalImage.src === src", arg=last)


def test_zoom_by_wheel_keys_and_click_and_the_picture_is_dragged(three: Visit) -> None:
    page = three.page
    opened(three)
    fitted = size(three)
    page.mouse.move(800, 550)
    page.mouse.wheel(0, -100)
    page.mouse.wheel(0, -100)
    assert size(three)[1] == pytest.approx(fitted[1] * 1.25**2, abs=2)
    page.keyboard.press("-")
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert size(three) == fitted  # never smaller
    page.keyboard.press("+")
    assert size(three)[1] == pytest.approx(fitted[1] * 1.25, abs=2)
    page.keyboard.press("0")
    page.mouse.click(800, 550)
    assert size(three)[1] == pytest.approx(fitted[1] * 2, abs=2)
    top = page.evaluate("modalImage.getBoundingClientRect().top")
    page.mouse.down()
    page.mouse.move(800, 650, steps=4)
    page.mouse.up()
    assert page.evaluate("modalImage.getBoundingClientRect().top") == pytest.approx(top + 100, abs=1)
    page.mouse.click(800, 550)
    assert size(three) == fitted
    page.click("#modal_zoom")
    assert max(size(three)) <= 128  # its own size
    page.mouse.click(300, 900)  # beside it
    expect(page.locator("#lightboxModal")).to_be_hidden()


def test_fingers_pinch_and_swipe(three: Visit) -> None:
    page = three.page
    opened(three)
    grid = source(three)
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *points: tuple[int, int]) -> None:
        at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    fingers("touchStart", (1000, 550))
    fingers("touchMove", (900, 550))
    fingers("touchMove", (700, 550))
    fingers("touchEnd")
    page.wait_for_function("src => modalImage.src !== src", arg=grid)
    page.wait_for_function("modalImage.complete && modalImage.getBoundingClientRect().height === 1100")  # a square now
    fingers("touchStart", (750, 550))
    fingers("touchStart", (750, 550), (850, 550))
    fingers("touchMove", (700, 550), (900, 550))
    fingers("touchEnd")
    assert size(three) == (2200, 2200)


@pytest.fixture
def settings(server: Any) -> Iterator[Any]:
    """Sets options, and sets them back afterwards."""
    before = httpx.get(f"{server.url}/sdapi/v1/options", timeout=60).json()
    changed: list[str] = []

    def change(**options: Any) -> None:
        changed.extend(options)
        httpx.post(f"{server.url}/sdapi/v1/options", json=options, timeout=60).raise_for_status()

    yield change
    change(**{key: before[key] for key in changed})


def test_its_settings_are_obeyed(visit: Visit, settings: Any) -> None:
    settings(js_modal_lightbox_initially_zoomed=False, sd_webui_modal_lightbox_icon_opacity=0.25)
    visit.reload()
    visit.generate("small", steps=1, width=64, height=64)
    visit.picture_width()
    viewer = opened(visit)
    assert size(visit) == (64, 64)
    assert viewer.locator("#modal_save").evaluate("(button) => getComputedStyle(button).opacity") == "0.25"
    expect(viewer.locator("#modalNext")).to_be_hidden()  # there is but one
    visit.page.keyboard.press("Escape")
    settings(js_modal_lightbox=False)
    visit.reload()
    visit.picture_width()
    visit.page.click(DETAIL)
    visit.page.wait_for_timeout(300)
    expect(viewer).to_be_hidden()


def viewed(visit: Visit, tab: str) -> None:
    """Open the tab's picture, see it, save it where the tab does so, and come back to its gallery."""
    detail = f"#{tab}_gallery img[data-testid=detailed-image]"
    viewer = opened(visit, detail)
    assert source(visit) == visit.page.locator(detail).get_attribute("src")
    expect(viewer.locator("#modal_save")).to_be_visible(visible=visit.page.locator(f"#save_{tab}").count() > 0)
    visit.page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    assert visit.page.evaluate("tab => document.activeElement.closest(`#${tab}_gallery`) !== null", tab)
    assert set(visit.complaints) <= {"Method not implemented."}  # Gradio's own, after every upload


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(encode_image(Image.effect_noise((64, 64), 60).convert("RGB"), "png", None))
    return path


def test_it_opens_in_img2img(visit: Visit, cat: Path) -> None:
    visit.page.click("#tab_img2img-button")
    visit.page.set_input_files("#img2img_image input[type=file]", cat)
    expect(visit.page.locator("#img2img_image img")).to_be_visible()
    visit.generate("from a picture", tab="img2img", steps=1, batch_count=2, width=64, height=64)
    visit.picture_width("img2img")
    viewed(visit, "img2img")
    opened(visit, "#img2img_gallery img[data-testid=detailed-image]")
    before = source(visit)
    visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_function("src => modalImage.src !== src", arg=before)


def test_it_opens_in_extras(visit: Visit, cat: Path) -> None:
    visit.page.click("#tab_extras-button")
    visit.page.set_input_files("#extras_image input[type=file]", cat)
    expect(visit.page.locator("#extras_image img")).to_be_visible()
    with visit.job("extras"):
        visit.page.click("#extras_generate")
    visit.picture_width("extras")
    viewed(visit, "extras")


def test_a_gamepads_stick_moves_on(visit: Visit, settings: Any) -> None:
    settings(js_modal_lightbox_gamepad=True, js_modal_lightbox_gamepad_repeat=50)
    visit.page.add_init_script("navigator.getGamepads = () => [window.pad ?? null]")
    visit.reload()
    visit.generate("stick", steps=1, batch_count=2, width=64, height=64)
    visit.picture_width()
    opened(visit)
    before = source(visit)
    visit.page.evaluate("window.pad = {axes: [1, 0]}")
    visit.page.wait_for_function("src => modalImage.src !== src", arg=before)
