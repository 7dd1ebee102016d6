"""A real Easel in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
EXACT = ("--no-half", "--precision", "full", "--device", "cpu")
"""fp32, in which pictures are compared."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """url: where it answers. data: its --data-dir. log: what it printed."""

    data: Path
    flags: tuple[str, ...] = EXACT
    command: tuple[str, ...] = (sys.executable, "-m", "webui.app")
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.data / "server.log").read_text(errors="replace")

    def start(self, timeout: float = 60) -> float:
        """Start it and wait until it answers. Returns: the seconds that took."""
        started = time.monotonic()
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environ.pop("GRADIO_TEMP_DIR", None)  # that of a page built in this process
        with (self.data / "server.log").open("ab") as log:
            command = [*self.command, "--port", str(self.port), "--data-dir", str(self.data), *self.flags]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        self.wait_until_up(timeout)
        return time.monotonic() - started

    def wait_until_up(self, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.log}"
            try:
                if httpx.get(f"{self.url}/internal/ping", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"no answer at {self.url} within {timeout} s:\n{self.log}")

    def stop(self) -> int:
        """Stop it as Ctrl+C does. Returns: its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)

    def txt2img(self, **body: object) -> httpx.Response:
        small = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 1}
        return httpx.post(f"{self.url}/sdapi/v1/txt2img", json={**small, **body}, timeout=120)
