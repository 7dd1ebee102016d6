"""A browser at the running server. Chromium is the system's: $CHROMIUM, or the first one on the path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
READY = "html[data-easel=ready]"
SLOW = 60_000  # milliseconds; the machine may be busy


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here: install one or name it in $CHROMIUM")
    expect.set_options(timeout=SLOW / 2)
    switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=switches)
        yield running
        running.close()


class Visit:
    """A page in a browser of its own (no memory of others), with what it asked for and complained about."""

    def __init__(self, browser: Browser, url: str, **options: Any):
        self.url = url
        self.context = browser.new_context(viewport={"width": 1600, "height": 1100}, **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(SLOW)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self) -> Page:
        self.page.goto(self.url)
        self.page.wait_for_selector(READY, state="attached")
        return self.page

    def reload(self) -> None:
        self.page.reload()
        self.page.wait_for_selector(READY, state="attached")

    def set_number(self, elem_id: str, value: object) -> None:
        """Type into a slider's or number's box, again if the page was still building it and dropped the first try."""
        box = self.page.locator(f"#{elem_id} input[type=number]")
        for _ in range(10):
            box.fill(str(value))
            box.press("Tab")
            self.page.wait_for_timeout(150)
            if box.input_value() == str(value):
                return

    def number(self, elem_id: str) -> float:
        return float(self.page.locator(f"#{elem_id} input[type=number]").input_value())

    def generate(self, prompt: str, *, tab: str = "txt2img", wait: bool = True, **numbers: object) -> None:
        """numbers: fields of the tab by the end of their element id."""
        self.page.fill(f"#{tab}_prompt textarea", prompt)
        for name, value in numbers.items():
            self.set_number(f"{tab}_{name}", value)
        self.page.click(f"#{tab}_generate")
        self.page.wait_for_selector(f"#{tab}_interrupt")
        if wait:
            self.wait_idle(tab)

    def wait_idle(self, tab: str = "txt2img") -> None:
        self.page.wait_for_selector(f"#{tab}_generate")

    def picture_width(self, tab: str = "txt2img") -> int:
        """Pixels of the picture shown, once it has been loaded."""
        image = f"#{tab}_gallery img[data-testid=detailed-image]"
        self.page.wait_for_selector(image)
        self.page.wait_for_function(f"document.querySelector('{image}')?.naturalWidth > 0")
        return int(self.page.evaluate(f"document.querySelector('{image}').naturalWidth"))


@pytest.fixture
def visit(browser: Browser, server: Any) -> Iterator[Visit]:
    """The page, opened."""
    visitor = Visit(browser, server.url)
    visitor.open()
    yield visitor
    visitor.context.close()
