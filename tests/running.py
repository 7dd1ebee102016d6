"""A real Easel in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
EXACT = ("--no-half", "--precision", "full", "--device", "cpu")
"""fp32, in which pictures are compared."""
ENDLESS: Mapping[str, int] = {"steps": 10_000, "n_iter": 100}
"""Fields of a request for a job that lasts until it is ended: ten thousand steps a picture, a hundred pictures."""


def free_port() -> int:
    """Chosen by the system, so that tests beside each other don't want the same one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """data: its --data-dir. port: where it answers, one that was free at its first start. log: what it printed.

    client: for many requests; one of its own for each takes 40 ms of computing.
    """

    data: Path
    flags: tuple[str, ...] = EXACT
    command: tuple[str, ...] = (sys.executable, "-m", "webui.app")
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60), repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.data / "server.log").read_text(errors="replace")

    def start(self, timeout: float = 120) -> float:
        """Start it, on the port it had before, and wait until it answers. Returns: the seconds that took."""
        started = time.monotonic()
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environ.pop("GRADIO_TEMP_DIR", None)  # that of a page built in this process
        with (self.data / "server.log").open("ab") as log:
            command = [*self.command, "--port", str(self.port), "--data-dir", str(self.data), *self.flags]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        self.wait_until_up(timeout)
        return time.monotonic() - started

    def wait_until_up(self, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.log}"
            if self.answers():
                return
            time.sleep(0.05)
        raise AssertionError(f"no answer within {timeout} s:\n{self.log}")

    def answers(self) -> bool:
        try:
            return self.client.get(f"{self.url}/internal/ping", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def wait_for_step(self, count: int = 1) -> None:
        """Until the job that runs has done that many steps of its pass."""
        deadline = time.monotonic() + 120
        while self.client.get(f"{self.url}/sdapi/v1/progress").json()["state"]["sampling_step"] < count:
            assert time.monotonic() < deadline, "no job has come so far"
            time.sleep(0.02)

    def stop(self) -> int:
        """Stop it as Ctrl+C does. Returns: its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def txt2img(self, **body: object) -> httpx.Response:
        small = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 1}
        return self.client.post(f"{self.url}/sdapi/v1/txt2img", json={**small, **body}, timeout=240)
