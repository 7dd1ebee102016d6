"""A page in a browser at a running server, for tests to click through."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect
from playwright.sync_api import TimeoutError as TooLate

READY = "html[data-easel=ready]"
SCREENSHOTS = os.environ.get("EASEL_SCREENSHOTS")
SLOW = 60_000  # milliseconds; the machine may be busy
ENDED = """([tab, before]) => {
  const job = localStorage.getItem(`${tab}_task_id`);
  return ![null, before].includes(job) && easel.shownJob(tab) === job;
}"""
"""Whether a tab has had another job than before. A quick one is over before anyone sees it run."""


def photograph(page: Page, name: str) -> None:
    """Save what a page shows, all of it, as `name`.jpg in the folder that $EASEL_SCREENSHOTS names, if it does."""
    if SCREENSHOTS:
        plain = re.sub(r"[^\w.-]+", "-", name)[:150]
        page.screenshot(path=Path(SCREENSHOTS) / f"{plain}.jpg", type="jpeg", quality=60, full_page=True)


def photograph_all(browser: Browser, name: str) -> None:
    """The same of each page that is open: `name`.jpg, `name`.2.jpg, ..."""
    for number, page in enumerate((page for context in browser.contexts for page in context.pages), 1):
        photograph(page, f"{name}.{number}" if number > 1 else name)


class Visit:
    """A page in a browser of its own (no memory of others), with what it asked for and complained about."""

    def __init__(self, browser: Browser, url: str, **options: Any):
        self.url = url
        self.context = browser.new_context(**{"viewport": {"width": 1600, "height": 1100}, **options})
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

    def close(self) -> None:
        """For a test that ends its visit itself: photographed as it is then."""
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]  # "tests/ui/test_x.py::test_y (call)"
        photograph(self.page, test.rpartition("/")[2].replace(".py::", "."))
        self.context.close()

    def reload(self) -> None:
        self.page.reload()
        self.page.wait_for_selector(READY, state="attached")

    def set_number(self, elem_id: str, value: object) -> None:
        """Type into a slider's or number's box, again while the page is still building it and drops what is typed."""
        box = self.page.locator(f"#{elem_id} input:not([type=range])")
        for _ in range(20):
            box.fill(str(value))
            box.press("Tab")
            self.page.wait_for_timeout(150)
            if box.input_value() == str(value):
                return
        raise AssertionError(f"{elem_id} stays {box.input_value()}, not {value}")

    def tick(self, elem_id: str) -> None:
        """Tick a box, again while the page is still building it and takes the tick away."""
        box = self.page.locator(f"#{elem_id} input")
        for _ in range(20):
            if not box.is_checked():
                box.click()
            self.page.wait_for_timeout(150)
            if box.is_checked():
                return
        raise AssertionError(f"{elem_id} can't be ticked")

    def number(self, elem_id: str) -> float:
        return float(self.page.locator(f"#{elem_id} input:not([type=range])").input_value())

    def expect_numbers(self, tab: str, **numbers: object) -> None:
        """numbers: fields of the tab by the end of their element id."""
        for name, value in numbers.items():
            expect(self.page.locator(f"#{tab}_{name} input:not([type=range])")).to_have_value(str(value))

    def open_list(self, box: str, name: str | re.Pattern[str]) -> Locator:
        """Open a dropdown and return the choice of a name, also one that is only just on its way from the server.

        A list that is open shows no choices that come, so it is closed and opened until the choice is there.
        """
        option = self.page.get_by_role("option", name=name)
        for _ in range(60):
            self.page.click(box)
            try:
                option.first.wait_for(timeout=1000)
                return option.first
            except TooLate:
                self.page.locator(box).blur()
        raise AssertionError(f"{box} offers no {name}")

    def choose(self, box: str, name: str | re.Pattern[str]) -> None:
        """Choose from a dropdown: as often as its list goes away under the hand, because another one has just come."""
        for _ in range(60):
            try:
                self.open_list(box, name).click(timeout=2000)
                return
            except TooLate:
                self.page.locator(box).blur()
        raise AssertionError(f"{box} doesn't take {name}")

    def generate(self, prompt: str, *, tab: str = "txt2img", **numbers: object) -> None:
        """Make pictures and wait until they are on the page. numbers: fields of the tab by the end of their id."""
        self.fill_in(prompt, tab, **numbers)
        with self.job(tab):
            self.page.click(f"#{tab}_generate")
        expect(self.page.locator(f"#html_info_{tab}")).to_contain_text(prompt)

    def start_endless(self, prompt: str, **numbers: object) -> None:
        """Begin 15,000 steps on txt2img, which `interrupt` ends; returns when the first ones are done."""
        self.fill_in(prompt, "txt2img", steps=150, batch_count=100, width=64, height=64, **numbers)
        self.page.click("#txt2img_generate")
        self.wait_for_steps()

    def wait_for_steps(self) -> None:
        """Until the page tells that its job has done a step, and so has a picture to keep when it is interrupted."""
        self.page.wait_for_function("/^\\[\\d+% ETA: \\S+\\] Stable Diffusion$/.test(document.title)")

    def interrupt(self, tab: str = "txt2img") -> None:
        """End the job that runs, and wait until that is on the page."""
        self.page.click(f"#{tab}_interrupt")
        self.wait_idle(tab)

    def fill_in(self, prompt: str, tab: str, **numbers: object) -> None:
        self.page.fill(f"#{tab}_prompt textarea", prompt)
        for name, value in numbers.items():
            self.set_number(f"{tab}_{name}", value)

    @contextmanager
    def job(self, tab: str = "txt2img") -> Iterator[None]:
        """Inside, a job of the tab is started; it is left when the page has learnt how that ended."""
        before = self.page.evaluate("tab => localStorage.getItem(`${tab}_task_id`)", tab)
        yield
        self.page.wait_for_function(ENDED, arg=[tab, before])

    def wait_idle(self, tab: str = "txt2img") -> None:
        self.page.wait_for_selector(f"#{tab}_generate")

    def picture_width(self, tab: str = "txt2img") -> int:
        """Pixels of the picture shown, once it has been loaded."""
        image = f"#{tab}_gallery img[data-testid=detailed-image]"
        self.page.wait_for_selector(image)
        # Asked once: the page may draw the picture anew between two questions.
        return int(self.page.wait_for_function(f"document.querySelector('{image}')?.naturalWidth").json_value())
