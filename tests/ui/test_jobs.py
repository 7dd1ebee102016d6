"""What the page does with the job of a tab: actions right after its start, and other tabs of the browser."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browsing import Visit

PROMPT = "#txt2img_prompt textarea"
ON_TOP = "([x, y]) => document.elementFromPoint(x, y).closest('.livePreview') !== null"
LONG = {"steps": 150, "batch_count": 100, "width": 64, "height": 64}


def delay_submits(visit: Visit, seconds: float) -> None:
    """Let what the page sends to Gradio's queue arrive late."""

    def late(route: Route) -> None:
        if (route.request.post_data or "").find("task(") > 0:
            time.sleep(seconds)
        route.continue_()

    visit.page.route("**/gradio_api/queue/join**", late)


@pytest.mark.parametrize("wait", [0, 20, 60, 150, 300, 450, 700])
def test_escape_right_after_generate_is_not_lost(visit: Visit, wait: int) -> None:
    visit.fill_in("at once", "txt2img", **LONG)
    delay_submits(visit, 0.5)
    visit.page.focus(PROMPT)
    visit.page.keyboard.press("Control+Enter")
    visit.page.wait_for_timeout(wait)
    visit.page.keyboard.press("Escape")
    visit.page.wait_for_selector("#txt2img_generate_box:is([data-state=running], [data-state=interrupting])")
    visit.wait_idle()


def test_escape_is_obeyed_twenty_times_of_twenty(visit: Visit) -> None:
    """At every moment of the way to the server, the first half with submits that take 0.3 s."""
    visit.fill_in("twenty", "txt2img", **LONG)
    delay_submits(visit, 0.3)
    for number in range(20):
        if number == 10:
            visit.page.unroute("**/gradio_api/queue/join**")
        visit.page.focus(PROMPT)
        with visit.job():
            visit.page.keyboard.press("Control+Enter")
            visit.page.wait_for_timeout(number % 10 * 50)
            visit.page.keyboard.press("Escape")
        visit.wait_idle()
    assert visit.complaints == []


def test_escape_in_the_same_moment_as_generate(visit: Visit) -> None:
    visit.fill_in("same moment", "txt2img", **LONG)
    visit.page.evaluate(
        """() => {
          txt2img_generate.click();
          document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
        }"""
    )
    visit.page.wait_for_selector("#txt2img_generate_box[data-state=interrupting]")
    visit.wait_idle()


def test_skip_and_a_second_interrupt_wait_for_the_job_too(visit: Visit) -> None:
    visit.fill_in("skipped", "txt2img", steps=150, batch_count=2, width=512, height=512)  # not over before the clicks
    delay_submits(visit, 0.5)
    page = visit.page
    page.click("#txt2img_generate")
    page.click("#txt2img_skip")
    page.click("#txt2img_interrupt")
    page.click("#txt2img_interrupting")
    visit.wait_idle()


def test_a_second_tab_of_the_browser_has_its_own_job(visit: Visit) -> None:
    visit.start_endless("first tab")
    first, second = visit.page, visit.context.new_page()
    second.goto(visit.url)
    second.wait_for_selector("html[data-easel=ready]", state="attached")
    second.wait_for_timeout(1000)
    expect(second.locator("#txt2img_generate")).to_be_visible()
    second.fill(PROMPT, "second tab")
    for name, value in {"steps": 1, "width": 64, "height": 64}.items():
        second.locator(f"#txt2img_{name} input[type=number]").fill(str(value))
        second.press(f"#txt2img_{name} input[type=number]", "Tab")
    second.click("#txt2img_generate")
    expect(second.locator("#txt2img_gallery_container .progressText")).to_contain_text("In queue: 1/1")
    second.reload()
    expect(second.locator("#txt2img_gallery_container .progressText")).to_contain_text("In queue: 1/1")
    visit.interrupt()
    expect(second.locator("#html_info_txt2img")).to_contain_text("second tab")
    expect(first.locator("#html_info_txt2img")).to_contain_text("first tab")
    visit.reload()
    expect(first.locator("#html_info_txt2img")).to_contain_text("first tab")


def test_a_tab_that_was_closed_leaves_its_job_to_the_next(visit: Visit) -> None:
    visit.start_endless("left alone")
    visit.page.close()
    visit.page = visit.context.new_page()
    visit.open()
    visit.wait_for_steps()
    visit.interrupt()
    expect(visit.page.locator("#html_info_txt2img")).to_contain_text("left alone")


def test_the_live_preview_lies_over_the_chosen_picture(visit: Visit, tmp_path: Path) -> None:
    visit.generate("before", steps=1, width=64, height=64)
    visit.picture_width()
    visit.start_endless("after")
    visit.page.wait_for_function("document.querySelector('.livePreview img')?.naturalWidth > 0")
    for place in ("#txt2img_gallery img[data-testid=detailed-image]", "#txt2img_gallery .icon-button-wrapper"):
        for box in [part.bounding_box() for part in visit.page.locator(place).all()]:
            if box:
                middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
                assert visit.page.evaluate(ON_TOP, middle), place
    visit.page.screenshot(path=tmp_path / "preview.png")
    visit.interrupt()


def test_errors_are_told_in_a_notice_and_stay_under_the_gallery(visit: Visit) -> None:
    visit.page.fill(PROMPT, "odd seed")
    visit.page.fill("#txt2img_seed input", "ten")
    visit.page.click("#txt2img_generate")
    expect(visit.page.locator(".toast-wrap")).to_contain_text("Seed (seed) must be")
    expect(visit.page.locator("#html_log_txt2img .error")).to_contain_text("Seed (seed) must be")
    visit.page.click("#save_txt2img")
    expect(visit.page.locator(".toast-wrap")).to_contain_text("no picture to save")
