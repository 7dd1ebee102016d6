"""Who logs in finds their form, their running job and their pictures on every device; nobody else does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import Visit
from tests.running import EXACT, Server
from tests.tiny import tiny_checkpoint
from webui.ui.visitors.sessions import owner_of_user

USERS = {"anna": "a", "ben": "b"}
BEN = owner_of_user("ben")
INFO = "#html_info_txt2img"
PROMPT = "#txt2img_prompt textarea"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that two people log in to."""
    data = tmp_path_factory.mktemp("shared")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    logins = ",".join(f"{user}:{password}" for user, password in USERS.items())
    running = Server(data, flags=(*EXACT, "--gradio-auth", logins))
    running.start()
    yield running
    assert running.stop() == 0


def enter(visit: Visit, user: str) -> None:
    """Log in and open the page, in place of whoever was logged in before."""
    answer = visit.context.request.post(f"{visit.url}/login", form={"username": user, "password": USERS[user]})
    assert answer.ok
    visit.open()


def test_form_progress_and_pictures_follow_their_user_and_nobody_else(browser: Browser, shared: Server) -> None:
    with ExitStack() as stack:
        desk, phone, other = (Visit(browser, shared.url) for _ in range(3))
        for device in (desk, phone, other):
            stack.callback(device.context.close)
        enter(desk, "anna")
        desk.fill_in("anna's cat", "txt2img", steps=3, width=64, height=72)
        desk.page.click("#txt2img_generate")
        expect(desk.page.locator(INFO)).to_contain_text("anna's cat")
        desk.set_number("txt2img_cfg_scale", 4.5)  # changed and not generated
        desk.page.wait_for_timeout(1500)

        enter(phone, "anna")
        expect(phone.page.locator(PROMPT)).to_have_value("anna's cat")
        phone.expect_numbers("txt2img", steps=3, width=64, height=72, cfg_scale=4.5)
        expect(phone.page.locator(INFO)).to_contain_text("anna's cat")
        assert phone.picture_width() == 64
        phone.start_endless("anna's dog")

        desk.reload()
        expect(desk.page.locator(PROMPT)).to_have_value("anna's cat")  # a browser tab has its own form
        desk.page.close()
        desk.page = desk.context.new_page()
        desk.open()
        expect(desk.page.locator(PROMPT)).to_have_value("anna's dog")
        desk.wait_for_steps()

        enter(other, "ben")
        page = other.page
        page.click("#tab_queue-button")
        rows = page.locator("#queue_jobs tr")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("Another user's job")
        assert "task(" not in page.locator("#queue_jobs").inner_html()
        page.click("#tab_txt2img-button")
        page.click("#paste")
        expect(page.locator("[data-testid=toast-body]")).to_contain_text("nothing has been generated yet")
        job = phone.page.evaluate("Object.entries(sessionStorage).find(([name]) => name.includes('_task_id'))[1]")
        page.evaluate("([name, job]) => sessionStorage.setItem(name, job)", [f"txt2img_task_id@{BEN}", job])
        other.reload()  # as if he had guessed it
        other.wait_for_steps()
        phone.interrupt()
        expect(page.locator("[data-testid=toast-body]")).to_contain_text("There is no job")
        expect(page.locator(INFO)).to_have_text("")

        enter(desk, "ben")  # in the browser that anna used
        expect(desk.page.locator(PROMPT)).to_have_value("")
        expect(desk.page.locator(INFO)).to_have_text("")
        assert desk.page.locator("#txt2img_gallery img").count() == 0
