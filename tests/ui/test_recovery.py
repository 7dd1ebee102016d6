"""The server dies while the page is open."""

from __future__ import annotations

import signal
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browsing import Visit
from tests.running import Server
from tests.tiny import tiny_checkpoint


def test_the_page_comes_back_with_its_prompts_after_the_server_was_killed(browser: Browser, tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "models" / "Stable-diffusion")
    server = Server(tmp_path)
    server.start()
    visit = Visit(browser, server.url)
    try:
        page = visit.open()
        visit.start_endless("kept in mind")
        page.evaluate("window.beforeTheCrash = true")
        assert server.process is not None
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        expect(page.locator(".easel-restarting")).to_contain_text("Server restarting")
        server.start()
        page.wait_for_function("window.beforeTheCrash === undefined")
        page.wait_for_selector("html[data-easel=ready]", state="attached")
        expect(page.locator("#txt2img_prompt textarea")).to_have_value("kept in mind")
        expect(page.locator("#html_log_txt2img")).to_contain_text("restarted")
        visit.wait_for_steps()  # of the job that was interrupted, which runs again
        visit.interrupt()
        visit.generate("and on", steps=1, batch_count=1, width=128)
        assert visit.picture_width() == 128
    finally:
        visit.close()
        server.stop()
