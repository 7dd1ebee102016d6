"""Servers that are killed and started again, and what their queues hold."""

from __future__ import annotations

import base64
import io
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.running import Server, free_port
from tests.tiny import tiny_checkpoint

SOON = 180.0


def new_server(data: Path, *, settings: dict[str, Any] | None = None, extension: str = "") -> Server:
    """One on a fresh data folder, not started yet. extension: the text of an extension.py."""
    data.mkdir(parents=True, exist_ok=True)
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    (data / "config.json").write_text(json.dumps({"live_previews_enable": False, **(settings or {})}))
    if extension:
        folder = data / "extensions" / "test-faults"
        folder.mkdir(parents=True)
        (folder / "extension.py").write_text(extension)
    return Server(data)


def submit(server: Server, job_id: str, **body: Any) -> None:
    """Queue a picture and return once it is queued; nobody waits for its answer."""

    def post() -> None:
        try:
            server.txt2img(**{"force_task_id": job_id, "save_images": True, "send_images": False, **body})
        except httpx.HTTPError:
            return  # the server was killed

    threading.Thread(target=post, daemon=True).start()
    until(lambda: job_id in jobs(server), f"{job_id} is not queued")


def jobs(server: Server) -> dict[str, dict[str, Any]]:
    """Every job by its id, as /easel/v1/queue tells them."""
    answer = server.client.get(f"{server.url}/easel/v1/queue").raise_for_status().json()
    return {job["id"]: job for job in answer["jobs"]}


def states(server: Server) -> dict[str, str]:
    return {name: job["state"] for name, job in jobs(server).items()}


def until(is_so: Callable[[], bool], otherwise: str, timeout: float = SOON) -> None:
    deadline = time.monotonic() + timeout
    while not is_so():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def until_ended(server: Server, count: int) -> dict[str, dict[str, Any]]:
    """Wait until that many jobs have ended and none is left; returns them all."""

    def all_ended() -> bool:
        ended = [job for job in jobs(server).values() if job["state"] not in ("queued", "running")]
        return len(ended) >= count and len(ended) == len(jobs(server))

    until(all_ended, f"not all have ended: {states(server)}")
    return jobs(server)


def pixels(server: Server, job_id: str) -> list[bytes]:
    """The pictures that a job made, decoded."""
    answer = server.client.get(f"{server.url}/easel/v1/queue/result", params={"id": job_id}).raise_for_status()
    return [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB").tobytes() for text in answer.json()["images"]]


def kill(server: Server) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait(timeout=60)


def start_again(server: Server) -> None:
    """Start a killed server, on another port. Its log begins anew."""
    server.port = free_port()
    (server.data / "server.log").unlink()
    server.start()


def rows(data: Path) -> list[tuple[str, str, int]]:
    """(id, state, attempts) of every job in the data folder of a server that doesn't run."""
    with sqlite3.connect(data / "jobs" / "queue.sqlite") as db:
        return db.execute("SELECT id, state, attempts FROM jobs ORDER BY place").fetchall()


def saved_pictures(data: Path) -> list[Path]:
    return sorted((data / "outputs").rglob("*.png"))
