"""The page on a phone: 390 pixels wide, used by fingers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browsing import Visit

WIDTH = 390
TABS = {
    "txt2img": "#txt2img_gallery",
    "img2img": "#img2img_gallery",
    "extras": "#extras_gallery",
    "pnginfo": "#pnginfo_image",
    "modelmerger": "#modelmerger_merge",
    "train": "#tab_train input",
    "settings": "#settings_submit",
    "extensions": "#extensions_installed_html table",
    "gallery": "#gallery_files",
    "queue": "#queue_jobs",
    "deforum": "#tab_deforum button",
    "mov2mov": "#tab_mov2mov button",
}
"""Tab -> what is there once it has been drawn."""
TOO_WIDE = """width => {
  const clipped = (element) => {
    for (let box = element.parentElement; box && box !== document.body; box = box.parentElement) {
      if (getComputedStyle(box).overflowX !== "visible") return true;
    }
    return false;
  };
  const right = (element) => Math.round(element.getBoundingClientRect().right);
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility() && right(element) > width + 1 && !clipped(element))
    .map((element) => `${element.tagName}#${element.id}.${element.className} ${right(element)}`)
    .slice(0, 5);
}"""
"""What stands out to the right of the page and lies in no box that scrolls or cuts by itself."""
SMALL = """() => [...document.querySelectorAll("button, select, input, [role=tab], [role=button]")]
  .filter((element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }))
  .map((element) => [element, (element.closest("label") ?? element).getBoundingClientRect()])
  .filter(([element, box]) => box.width && (box.height < 16 || box.width < 16))
  .map(([{ tagName, id, className }, box]) => `${tagName}#${id}.${className} ${box.width}x${box.height}`)
"""


@pytest.fixture(scope="module")
def phone(browser: Browser, server: Any) -> Iterator[Visit]:
    screen = {"width": WIDTH, "height": 844}
    visitor = Visit(browser, server.url, viewport=screen, has_touch=True, is_mobile=True)
    visitor.open()
    yield visitor
    visitor.context.close()


def open_tab(page: Page, tab: str) -> None:
    """By a tap on the tab, in the menu of further tabs where it has no room in the row."""
    button = page.locator(f"#tab_{tab}-button")
    if not button.is_visible():
        page.locator("#tabs > .tab-wrapper .overflow-menu > button").tap()
    page.locator(f"#tab_{tab}-button:visible").tap()
    page.wait_for_selector(TABS[tab], state="attached")


def stroke(visit: Visit, editor: str) -> None:
    """A finger across the middle of the picture."""
    canvas = visit.page.locator(f"#{editor} .pixi-target canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touches = visit.context.new_cdp_session(visit.page)

    def touch(kind: str, at: float | None) -> None:
        points = [] if at is None else [{"x": at, "y": y}]
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", x - 30)
    for step in range(-30, 31, 5):
        touch("touchMove", x + step)
    touch("touchEnd", None)
    touches.detach()


def test_no_tab_is_wider_than_the_screen(phone: Visit) -> None:
    found = {}
    for tab in TABS:
        open_tab(phone.page, tab)
        wide = phone.page.evaluate("document.documentElement.scrollWidth")
        found[tab] = (wide, phone.page.evaluate(TOO_WIDE, WIDTH), phone.page.evaluate(SMALL))
    assert {tab: told for tab, told in found.items() if told != (WIDTH, [], [])} == {}


def test_a_picture_is_made_and_seen_in_queue_and_gallery(phone: Visit) -> None:
    page = phone.page
    open_tab(page, "txt2img")
    page.locator("#txt2img_prompt textarea").tap()
    page.keyboard.type("a phone")
    phone.fill_in("a phone", "txt2img", steps=1, width=64, height=64)
    with phone.job():
        page.locator("#txt2img_generate").tap()
    expect(page.locator("#html_info_txt2img")).to_contain_text("a phone")
    open_tab(page, "queue")
    expect(page.locator("#queue_jobs tr[data-state=done]").first).to_be_visible()
    page.locator("#queue_jobs [data-queue=again]").first.tap()
    open_tab(page, "gallery")
    page.locator("#gallery_files .gallery-open").first.tap()
    expect(page.locator("#gallery_detail img").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTH


def test_a_finger_paints_the_mask(phone: Visit, server: Any, tmp_path: Path) -> None:
    page = phone.page
    file = tmp_path / "grey.png"
    picture = Image.new("RGB", (128, 128), "grey")
    picture.save(file)
    open_tab(page, "img2img")
    page.get_by_role("tab", name="Inpaint", exact=True).first.tap()
    editor = page.locator("#img2maskimg")
    with page.expect_file_chooser() as chooser:
        editor.locator(".image-container").tap(position={"x": 100, "y": 150})
    chooser.value.set_files(file)
    expect(editor.get_by_role("button", name="Undo")).to_be_enabled()
    before = page.evaluate("scrollY")
    stroke(phone, "img2maskimg")
    assert page.evaluate("scrollY") == before  # the finger paints, the page stays
    phone.fill_in("inpainted", "img2img", steps=1, width=128, height=128, mask_blur=0, denoising_strength=1)
    with phone.job("img2img"):
        page.locator("#img2img_generate").tap()
    files = (server.data / "outputs" / "img2img-images").rglob("*.png")
    made = Image.open(max(files, key=lambda path: path.stat().st_mtime))
    changed = np.abs(np.asarray(made.convert("RGB")).astype(int) - np.asarray(picture)).max(axis=-1) > 8
    assert changed[64].any()
    assert not changed[:20].any()
