"""What holds for every tab: axe finds nothing that keeps people out, and all is where A1111's users look for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browsing import Visit
from tools.recorded_page import differences, on_page, open_each, recorded

GRAVE = ("serious", "critical")
DIFFERENCES = Path(__file__).resolve().parents[2] / "docs" / "ui-differences.md"
ENOUGH = 0.98
OF_THIS_SERVER = "setting_interrupt_after_current"


@pytest.fixture(scope="module")
def visited(browser: Browser, server: Any) -> Iterator[Visit]:
    visitor = Visit(browser, server.url)
    visitor.open()
    yield visitor
    visitor.context.close()


def grave(page: Page, axe: Axe, place: str, rules: list[str] | None) -> list[str]:
    """The violations that keep people out, a line each. rules: which ones are asked, None for all."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = rules
    found = axe.run(page, options=options).response["violations"]
    return [
        f"{place}: {rule['id']} ({rule['impact']}): {node['target']} {node['html'][:160]}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


def test_no_tab_keeps_anybody_out(visited: Visit) -> None:
    page, axe = visited.page, Axe()
    found: list[str] = []
    for theme, rules in (("light", None), ("dark", ["color-contrast"])):  # nothing else depends on the theme
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
        for place in open_each(page):
            found += grave(page, axe, f"{place}, {theme}", rules)
    assert found == []


def test_what_was_recorded_of_a1111_is_on_the_page_or_told(visited: Visit, parity: Path) -> None:
    """The test before has opened every tab."""
    parts = [part for part in recorded((parity / "ui-tree.txt").read_text(encoding="utf-8")) if not part.hidden]
    told = differences(parts, on_page(visited.page))
    told.pop(OF_THIS_SERVER, None)
    listed = set(re.findall(r"^\| `([^`]+)` \|", DIFFERENCES.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name: why for name, why in told.items() if name not in listed} == {}
    assert listed - set(told) == set()
    assert 1 - len(told) / len(parts) >= ENOUGH
