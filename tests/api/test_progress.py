"""Watching and stopping a job over HTTP."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.api.conftest import Running, until
from tests.running import ENDLESS


@contextmanager
def running(easel: Running, job_id: str) -> Iterator[dict[str, Any]]:
    """A job of another client that lasts until it is ended; yields once it steps. Gets its answer under "answer"."""
    found: dict[str, Any] = {}
    body = {"prompt": "a cat", "width": 64, "height": 64, "force_task_id": job_id, **ENDLESS}

    def ask() -> None:
        found["answer"] = httpx.post(easel.url + "/sdapi/v1/txt2img", json=body, timeout=240)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        easel.wait_for_step(job_id)
        yield found
    finally:
        easel.services.jobs.interrupt(job_id)
        thread.join(60)
    assert found["answer"].status_code == 200


@pytest.fixture
def previews(easel: Running) -> Iterator[None]:
    """A preview at every step."""
    easel.client.post("/sdapi/v1/options", json={"show_progress_every_n_steps": 1})
    yield
    easel.client.post("/sdapi/v1/options", json={"show_progress_every_n_steps": 10})


def asked(easel: Running, job_id: str, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = easel.client.post("/internal/progress", json={"id_task": job_id, **fields}).json()
    return answer


def test_an_idle_server(easel: Running) -> None:
    answer = easel.client.get("/sdapi/v1/progress").json()
    assert (answer["progress"], answer["state"]["job_count"], answer["state"]["job"]) == (0, 0, "")
    assert easel.client.post("/sdapi/v1/interrupt").json() == {}
    assert easel.client.post("/sdapi/v1/skip").json() is None
    assert easel.client.get("/internal/pending-tasks").json() == {"size": 0, "tasks": []}
    assert easel.client.get("/internal/ping").json() == {}


def test_progress_of_a_running_job_and_its_interruption(easel: Running, previews: None) -> None:
    with running(easel, "task(watched)") as found:
        first = easel.client.get("/sdapi/v1/progress").json()
        assert first["state"]["job"] == "scripts_txt2img"
        assert (first["state"]["job_count"], first["state"]["sampling_steps"]) == (ENDLESS["n_iter"], ENDLESS["steps"])
        assert 0 < first["progress"] < 1
        assert first["eta_relative"] > 0
        assert base64.b64decode(first["current_image"]).startswith(b"\x89PNG")
        assert easel.client.get("/sdapi/v1/progress?skip_current_image=true").json()["current_image"] is None
        later = easel.client.get("/sdapi/v1/progress").json()
        assert later["progress"] >= first["progress"]
        easel.client.post("/sdapi/v1/interrupt")
        easel.services.jobs.wait("task(watched)", 60)
    assert len(found["answer"].json()["images"]) == 1


def test_the_pages_own_progress_of_running_queued_ended_and_unknown_jobs(easel: Running, previews: None) -> None:
    with running(easel, "task(front)"):
        waiting = threading.Thread(
            target=httpx.post,
            args=(easel.url + "/sdapi/v1/txt2img",),
            kwargs={"json": {"steps": 1, "width": 64, "height": 64, "force_task_id": "task(next)"}, "timeout": 240},
        )
        waiting.start()
        until(lambda: easel.client.get("/internal/pending-tasks").json()["size"])
        assert easel.client.get("/internal/pending-tasks").json() == {"size": 1, "tasks": ["task(next)"]}
        queued = asked(easel, "task(next)")
        assert (queued["queued"], queued["active"], queued["textinfo"]) == (True, False, "In queue: 1/1")
        active = asked(easel, "task(front)")
        assert (active["active"], active["queued"], active["completed"]) == (True, False, False)
        assert active["live_preview"].startswith("data:image/png;base64,")
        assert asked(easel, "task(front)", live_preview=False)["live_preview"] is None
        easel.services.jobs.interrupt("task(front)")
        waiting.join(60)
    ended, unknown = asked(easel, "task(front)"), asked(easel, "task(nobody)")
    assert (ended["completed"], unknown["completed"], unknown["textinfo"]) == (True, False, "Waiting...")


def test_skip_leaves_one_picture_of_a_batch(easel: Running) -> None:
    with running(easel, "task(skipped)") as found:
        easel.client.post("/sdapi/v1/skip")
        until(lambda: easel.client.get("/sdapi/v1/progress").json()["state"]["job_no"] == 1)
        easel.wait_for_step("task(skipped)")
        easel.client.post("/sdapi/v1/interrupt")
    assert len(json.loads(found["answer"].json()["info"])["infotexts"]) == 2


def test_a_storm_of_interrupts_is_harmless(easel: Running) -> None:
    for _ in range(100):
        assert easel.client.post("/sdapi/v1/interrupt").status_code == 200
    body = {"steps": 1, "width": 64, "height": 64}
    assert easel.client.post("/sdapi/v1/txt2img", json=body).status_code == 200


@pytest.mark.parametrize("body", [{"id_live_preview": "x"}, {"id_task": 7}, []])
def test_a_bad_question_is_refused(easel: Running, body: Any) -> None:
    assert easel.client.post("/internal/progress", json=body).status_code == 422
