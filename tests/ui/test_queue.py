"""The Queue tab in a real browser."""

from __future__ import annotations

import threading
from functools import partial

import httpx
from playwright.sync_api import expect

from tests.browsing import Visit
from tests.running import ENDLESS, Server


def submit(server: Server, job_id: str, **body: object) -> None:
    """Queue a picture; nobody waits for it."""
    threading.Thread(target=_post, args=(server, {"force_task_id": job_id, **body}), daemon=True).start()
    task = partial(httpx.post, f"{server.url}/internal/progress", json={"id_task": job_id})
    while not any(task().json()[key] for key in ("active", "queued", "completed")):
        continue


def _post(server: Server, body: dict[str, object]) -> None:
    server.txt2img(**body)


def test_jobs_are_listed_moved_cancelled_and_run_again(visit: Visit, server: Server) -> None:
    page = visit.page
    submit(server, "task(q long)", **ENDLESS)
    for name in ("one", "two", "<b>three</b>"):
        submit(server, f"task(q {name})", steps=1)
    page.click("#tab_queue-button")
    waiting = page.locator("#queue_jobs tr[data-state=queued]")
    expect(waiting).to_have_count(3)
    expect(page.locator("#queue_jobs b")).to_have_count(0)
    expect(page.locator("#queue_jobs tr[data-state=running]")).to_contain_text("task(q long)")
    page.locator("#queue_jobs tr[data-job='task(q two)'] button", has_text="Up").click()
    expect(waiting.first).to_contain_text("task(q two)")
    page.locator("#queue_jobs tr[data-job='task(q one)'] button", has_text="Cancel").click()
    expect(page.locator("#queue_jobs tr[data-job='task(q one)']")).to_have_attribute("data-state", "cancelled")
    page.locator("#queue_jobs tr[data-job='task(q long)'] button", has_text="Stop").click()
    done = page.locator("#queue_jobs tr[data-job='task(q two)'][data-state=done]")
    expect(done.locator("img")).to_have_count(1)
    page.locator("#queue_jobs tr[data-job='task(q one)'] button", has_text="Run again").click()
    expect(page.locator("#queue_jobs tr[data-job='task(q one)'][data-state=done] img")).to_have_count(1)
    assert visit.complaints == []
