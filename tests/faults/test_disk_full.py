"""The disk runs full under a running server: a small file system of its own, or the test is left out."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.jobs import jobs, kill, new_server, saved_pictures, states, submit, until, until_ended

MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all space that is left."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    return path


def test_a_full_disk_fails_the_job_rests_the_queue_and_all_pictures_are_made_once_there_is_space(
    small_disk: Path, tmp_path: Path
) -> None:
    server = new_server(tmp_path / "data", settings={"outdir_samples": str(small_disk / "outputs")})
    (tmp_path / "data" / "jobs").symlink_to(small_disk)
    server.start()
    answers: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(server.txt2img(force_task_id="task(0)", save_images=True, steps=150))
    )
    try:
        waiting.start()
        until(lambda: "task(0)" in jobs(server), "not queued")
        for number in (1, 2):
            submit(server, f"task({number})")
        server.wait_for_step(1)
        ballast = fill(small_disk)
        until(lambda: states(server)["task(0)"] == "failed", "it did not fail")
        waiting.join(60)
        assert answers[0].status_code == 507
        assert "no space" in answers[0].json()["errors"].lower()
        listing = httpx.get(f"{server.url}/easel/v1/queue").json()
        assert "The disk is full" in listing["trouble"]
        assert states(server) == {"task(1)": "queued", "task(2)": "queued", "task(0)": "failed"}
        refused = server.txt2img(force_task_id="task(refused)", prompt="long " * 40_000)
        assert refused.status_code == 507
        assert not [path for path in small_disk.rglob("*.tmp") if path.is_file()]
        ballast.unlink()
        ended = until_ended(server, 3)
        assert {job["state"] for job in ended.values()} == {"done"}
        assert len(saved_pictures(small_disk.parent)) + len(list((small_disk / "outputs").rglob("*.png"))) >= 3
        assert httpx.get(f"{server.url}/easel/v1/queue").json()["trouble"] == ""
    finally:
        kill(server)
