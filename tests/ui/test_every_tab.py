"""What holds for every tab: axe finds nothing that keeps people out, and all is where A1111's users look for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page

from tests.browsing import Visit
from tools.recorded_page import OPENED, differences, on_page, open_each, recorded

GRAVE = ("serious", "critical")
EDITORS = ("img2img_img2img_sketch_tab", "img2img_inpaint_tab", "img2img_inpaint_sketch_tab")
STILL = "*, *::before, *::after { transition: none !important; }"
DIFFERENCES = Path(__file__).resolve().parents[2] / "docs" / "ui-differences.md"
ENOUGH = 0.94
OF_THIS_SERVER = (
    "setting_interrupt_after_current",
    *(f"{tab}_{side}" for tab in ("txt2img", "img2img") for side in ("width", "height")),
)
"""What the server of these tests has otherwise: a setting, and a checkpoint of 64 pixels that the forms follow."""


@pytest.fixture(scope="module")
def visited(browser: Browser, server: Any) -> Iterator[Visit]:
    visitor = Visit(browser, server.url)
    visitor.open()
    yield visitor
    visitor.context.close()


def grave(page: Page, part: str, *, dark: bool, rules: list[str] | None = None) -> list[str]:
    """The violations within a part of the page that keep people out, a line each. rules: which ones, None for all."""
    page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
    options = {"resultTypes": ["violations"], "selectors": False, "preload": False}
    if rules:
        options["runOnly"] = rules
    found = page.evaluate("([part, options]) => axe.run(part, options)", [part, options])["violations"]
    return [
        f"{part}, {dark=}: {rule['id']} ({rule['impact']}): {node['html'][:160]}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


def test_no_tab_keeps_anybody_out(visited: Visit) -> None:
    """All rules in light; in dark that of the contrast, since nothing else depends on it.

    Left to Gradio are its three editors, whose canvas takes axe a minute each where no graphics card helps.
    """
    page = visited.page
    page.add_style_tag(content=STILL)
    page.evaluate(AXE_SCRIPT)
    found = grave(page, "body", dark=False)
    for place in open_each(page):
        tab = place.partition(", ")[0]
        part = f"#tab_{tab}" if tab in OPENED else f"#{place}"
        if place in EDITORS:
            continue
        found += grave(page, part, dark=False)
        found += grave(page, part, dark=True, rules=["color-contrast"])
    assert found == []


def test_what_was_recorded_of_a1111_is_on_the_page_or_told(visited: Visit, parity: Path) -> None:
    """The test before has opened every tab."""
    parts = [part for part in recorded((parity / "ui-tree.txt").read_text(encoding="utf-8")) if not part.hidden]
    told = differences(parts, on_page(visited.page))
    for name in OF_THIS_SERVER:
        told.pop(name, None)
    listed = set(re.findall(r"^\| `([^`]+)` \|", DIFFERENCES.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name: why for name, why in told.items() if name not in listed} == {}
    assert listed - set(told) == set()
    assert 1 - len(told) / len(parts) >= ENOUGH
