"""The page on a phone: 390 pixels wide, used by fingers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

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


@pytest.fixture(scope="module")
def phone(browser: Browser, server: Any) -> Iterator[Visit]:
    screen = {"width": WIDTH, "height": 844}
    visitor = Visit(browser, server.url, viewport=screen, has_touch=True, is_mobile=True)
    visitor.open()
    yield visitor
    visitor.context.close()


def open_tab(page: Page, tab: str) -> None:
    """By a tap on the tab, which may have to be swiped to."""
    page.locator(f"#tab_{tab}-button").tap()
    page.wait_for_selector(TABS[tab], state="attached")


def test_no_tab_is_wider_than_the_screen(phone: Visit) -> None:
    found = {}
    for tab in TABS:
        open_tab(phone.page, tab)
        wide = phone.page.evaluate("document.documentElement.scrollWidth")
        found[tab] = (wide, phone.page.evaluate(TOO_WIDE, WIDTH))
    assert {tab: told for tab, told in found.items() if told != (WIDTH, [])} == {}
