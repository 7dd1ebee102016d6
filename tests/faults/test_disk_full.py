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


def test_an_animation_waits_for_space(server: Server) -> None:
    """Its frames stay, and it goes on after the last one as if nothing had been."""
    given = {"W": 128, "H": 128, "seed": 4, "max_frames": 60, "diffusion_cadence": 1, "motion_preview_mode": True,
             "skip_video_creation": True}  # fmt: skip

    def start(name: str) -> tuple[str, Path]:
        body = {"deforum_settings": {**given, "batch_name": name}}
        (job,) = httpx.post(f"{server.url}/deforum_api/batches", json=body, timeout=60).json()["job_ids"]
        return job, server.data / "outputs" / "img2img-images" / name

    def frames(folder: Path) -> list[bytes]:
        return [path.read_bytes() for path in sorted(folder.glob("*_0000000[0-9][0-9].png"))]

    job, whole = start("whole")
    until(lambda: states(server)[job] == "done", "it did not end")
    job, folder = start("filled")
    until(lambda: len(frames(folder)) > 3, "no frames came")
    ballast = fill(server.data / "outputs")
    until(lambda: states(server)[job] == "failed", "it did not fail")
    assert "The disk is full" in listing(server)["trouble"]
    before = frames(folder)
    assert 3 < len(before) < 60
    assert before == frames(whole)[: len(before)]
    ballast.unlink()
    until(lambda: states(server)[job] == "done", "it did not go on")
    assert frames(folder) == frames(whole)
