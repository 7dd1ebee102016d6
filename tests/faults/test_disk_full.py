"""The disk runs full under a running server: a small file system of its own, or the test is left out."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.jobs import jobs, kill, new_server, saved_pictures, states, submit, until, until_ended
from tests.running import ENDLESS, Server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One whose outputs, those rescued to the home folder too, and queue lie on small file systems of their own."""
    monkeypatch.setenv("HOME", str(tmp_path / "outputs"))
    running = new_server(tmp_path)
    mounted: list[Path] = []
    try:
        for name in ("outputs", "jobs"):
            (tmp_path / name).mkdir()
            command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path / name)]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                pytest.skip("only root may mount a small file system")
            mounted.append(tmp_path / name)
        running.start()
        yield running
        kill(running)
    finally:
        for place in mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all space that is left."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    return path


def listing(server: Server) -> Any:
    return httpx.get(f"{server.url}/easel/v1/queue", timeout=60).json()


def test_where_pictures_go_is_full(server: Server) -> None:
    """The job fails, the queue rests, nothing is lost, and all goes on when there is space."""
    submit(server, "task(busy)", **{**ENDLESS, "save_images": False})
    server.wait_for_step(1)
    answers: list[httpx.Response] = []
    ask = {"force_task_id": "task(0)", "save_images": True}
    waiting = threading.Thread(target=lambda: answers.append(server.txt2img(**ask)))
    waiting.start()
    until(lambda: "task(0)" in jobs(server), "not queued")
    for number in (1, 2):
        submit(server, f"task({number})")
    ballast = fill(server.data / "outputs")
    httpx.post(f"{server.url}/easel/v1/queue/cancel", params={"id": "task(busy)"})
    until(lambda: states(server)["task(0)"] == "failed", "it did not fail")
    waiting.join(60)
    assert answers[0].status_code == 507
    assert "no space" in answers[0].json()["errors"].lower()
    assert "The disk is full" in listing(server)["trouble"]
    assert [states(server)[f"task({number})"] for number in range(3)] == ["failed", "queued", "queued"]
    assert not list((server.data / "outputs").rglob("*.tmp"))
    ballast.unlink()
    ended = until_ended(server, 4)
    assert {job["state"] for job in ended.values()} == {"done"}
    assert list(ended) == ["task(2)", "task(1)", "task(0)", "task(busy)"]
    assert len(saved_pictures(server.data)) == 3
    assert listing(server)["trouble"] == ""


def test_where_the_queue_lies_is_full(server: Server) -> None:
    """New jobs are refused in a sentence, and taken again when there is space."""
    assert server.txt2img().status_code == 200
    ballast = fill(server.data / "jobs")
    refused = server.txt2img(prompt="long " * 30_000)
    assert refused.status_code == 507
    assert "no space left for the queue" in refused.json()["errors"]
    assert httpx.get(f"{server.url}/sdapi/v1/progress").status_code == 200
    ballast.unlink()
    assert server.txt2img(force_task_id="task(after)").status_code == 200
    assert listing(server)["trouble"] == ""
