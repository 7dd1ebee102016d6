"""Faults around a running server: missing files, a damaged queue, clients that go, storms of interrupts, clocks."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.faults.jobs import jobs, kill, new_server, start_again, states, submit, until
from tests.running import ENDLESS, ROOT, Server
from tests.tiny import tiny_checkpoint
from webui.process.supervision import EXIT_FAILED_START


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion", "other", seed=3)
    running = new_server(data, settings={"sd_model_checkpoint": "tiny", "interrupt_after_current": False})
    running.start()
    yield running
    kill(running)


@pytest.fixture
def busy(server: Server) -> Iterator[str]:
    """The id of a job that runs until the test ends it."""
    name = f"task(endless {random.random()})"
    submit(server, name, **ENDLESS)
    server.wait_for_step(1)
    yield name
    httpx.post(f"{server.url}/easel/v1/queue/cancel", params={"id": name})
    until(lambda: states(server)[name] == "done", "it doesn't end")


@pytest.mark.parametrize("fate", ["deleted", "empty", "truncated", "other type"])
def test_a_checkpoint_that_goes_bad_while_the_job_waits_is_named_and_the_loaded_one_still_works(
    server: Server, busy: str, fate: str
) -> None:
    path = server.data / "models" / "Stable-diffusion" / "other.safetensors"
    whole = path.read_bytes()
    name = f"task({fate})"
    submit(server, name, override_settings={"sd_model_checkpoint": "other"})
    path.unlink()
    if fate != "deleted":
        path.write_bytes({"empty": b"", "truncated": whole[:2000], "other type": b"<html>not found</html>" * 99}[fate])
    httpx.post(f"{server.url}/sdapi/v1/interrupt")
    until(lambda: states(server)[name] == "failed", "it should have failed")
    assert "other.safetensors" in jobs(server)[name]["error"]
    assert server.txt2img().status_code == 200
    path.write_bytes(whole)
    assert server.txt2img(override_settings={"sd_model_checkpoint": "other"}).status_code == 200


def test_a_job_goes_on_without_its_client_and_keeps_its_result(server: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/sdapi/v1/txt2img",
            json={"steps": 100, "width": 64, "height": 64, "force_task_id": "task(left)"},
            timeout=httpx.Timeout(60, read=0.5),
        )
    until(lambda: states(server).get("task(left)") == "done", "it did not end")
    result = httpx.get(f"{server.url}/easel/v1/queue/result", params={"id": "task(left)"}).json()
    assert len(result["images"]) == 1
    task = {"id_task": "task(left)", "id_live_preview": -1}
    assert httpx.post(f"{server.url}/internal/progress", json=task).json()["completed"]


def test_a_job_ends_with_its_client_where_that_is_asked_for(server: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/sdapi/v1/txt2img",
            params={"cancel_on_disconnect": True},
            json={**ENDLESS, "width": 64, "height": 64, "force_task_id": "task(gone)"},
            timeout=httpx.Timeout(60, read=1),
        )
    until(lambda: states(server).get("task(gone)") == "done", "it goes on without its client")


def test_a_storm_of_interrupts_never_stops_the_wrong_job(server: Server, busy: str) -> None:
    assert server.process is not None
    names = [f"task(storm {number})" for number in range(3)]
    for name in names:
        submit(server, name, steps=20)
    cancel = f"{server.url}/easel/v1/queue/cancel"
    with ThreadPoolExecutor(8) as pool:
        ids = ["task(storm 1)", "task(left)", "task(nobody)"] * 33
        list(pool.map(lambda name: httpx.post(cancel, params={"id": name}, timeout=60), ids))
    assert states(server)["task(storm 1)"] == "cancelled"
    assert states(server)[busy] == "running"
    httpx.post(cancel, params={"id": busy})
    until(lambda: states(server)["task(storm 2)"] == "done", "the others don't go on")
    assert states(server)["task(storm 0)"] == "done"


def test_what_waits_can_be_put_into_another_order_and_run_again(server: Server, busy: str) -> None:
    for number in range(3):
        submit(server, f"task(order {number})", steps=1)
    move = f"{server.url}/easel/v1/queue/move"
    httpx.post(move, params={"id": "task(order 2)", "before": "task(order 0)"}).raise_for_status()
    httpx.post(move, params={"id": "task(order 0)"}).raise_for_status()
    waiting = [name for name, state in states(server).items() if state == "queued"]
    assert waiting == ["task(order 2)", "task(order 1)", "task(order 0)"]
    httpx.post(f"{server.url}/easel/v1/queue/cancel", params={"id": busy})
    until(lambda: states(server)["task(order 0)"] == "done", "it did not end")
    httpx.post(f"{server.url}/easel/v1/queue/again", params={"id": "task(order 1)"}).raise_for_status()
    until(lambda: states(server)["task(order 1)"] == "done", "it did not run again")


def test_a_second_server_on_the_same_folder_is_refused_with_the_number_of_the_first(server: Server) -> None:
    assert server.process is not None
    command = [sys.executable, "-m", "webui.app", "--data-dir", str(server.data), "--skip-load-model-at-start"]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert second.returncode == EXIT_FAILED_START
    assert f"another Easel (process {server.process.pid}) works with {server.data}" in second.stderr
    assert "Traceback" not in second.stderr
    assert server.txt2img().status_code == 200


def test_a_locked_queue_is_told_and_the_server_goes_on(server: Server) -> None:
    other = sqlite3.connect(server.data / "jobs" / "queue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        refused = server.txt2img()
        assert refused.status_code == 503
        assert "New jobs are refused" in refused.json()["errors"]
        assert "can't be written" in httpx.get(f"{server.url}/easel/v1/queue").json()["trouble"]
        assert httpx.get(f"{server.url}/sdapi/v1/progress").status_code == 200
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert server.txt2img().status_code == 200
    assert httpx.get(f"{server.url}/easel/v1/queue").json()["trouble"] == ""


def test_a_damaged_queue_is_told_and_the_server_goes_on(tmp_path: Path) -> None:
    server = new_server(tmp_path)
    server.start()
    try:
        assert server.txt2img(force_task_id="task(kept)").status_code == 200
        until(lambda: (tmp_path / "jobs" / "queue.backup.sqlite").exists(), "there is no backup")
        kill(server)
        for file in (tmp_path / "jobs").glob("queue.sqlite-*"):
            file.unlink()
        (tmp_path / "jobs" / "queue.sqlite").write_bytes(b"no database" * 1000)
        start_again(server)
        assert "was damaged" in server.log
        assert server.txt2img().status_code == 200
    finally:
        kill(server)
