"""Programs that serve a page: started, asked, measured and stopped."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.measure import Sample

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300.0
"""Seconds after which a program that doesn't answer counts as broken."""


class NoAnswer(Exception):
    """A program ended, or was silent, where an answer was due."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Program:
    """A server in a process of its own. started: when, by time.perf_counter()."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    started: float = field(default_factory=time.perf_counter)

    def wait_for_page(self) -> Sample:
        """Times from the command to the first 200 of "/"."""
        while time.perf_counter() - self.started < PATIENCE:
            if self.process.poll() is not None:
                break
            try:
                status, _ = self.ask("GET", "/")
            except OSError:  # nobody listens yet
                time.sleep(0.01)
                continue
            if status == 200:
                return Sample(time.perf_counter() - self.started, self.cpu())
        raise NoAnswer(f"no page from {self.process.args!r}:\n{self.log.read_text(errors='replace')}")

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """(status, content). body: sent as JSON. Raises: OSError while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {} if body is None else {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def cpu(self) -> float:
        """CPU seconds so far of the program and the processes it started."""
        total = 0.0
        for process in (own := psutil.Process(self.process.pid), *own.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
        ended = own.cpu_times()
        return total + getattr(ended, "children_user", 0.0) + getattr(ended, "children_system", 0.0)


@contextmanager
def running(command: Sequence[str], port: int, environ: Mapping[str, str] | None = None) -> Iterator[Program]:
    """The program while the context lasts, then stopped as Ctrl+C does, with what it started."""
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Program(process, port, log)
        finally:
            process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.wait()
