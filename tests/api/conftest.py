"""One running Easel for the tests of the API: the real application with a tiny model, over real HTTP."""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.server import serving
from tests.running import EXACT
from tests.tiny import tiny_checkpoint
from webui.api.guard import Guard
from webui.app import build_app
from webui.core.flags import parse_flags
from webui.services.building import build_services
from webui.services.services import Services


@dataclass(frozen=True)
class Running:
    """url: where it answers. client: one that asks there."""

    url: str
    services: Services
    client: httpx.Client
    guard: Guard

    def wait_for_step(self, job_id: str, count: int = 1) -> None:
        """Until a job, which may not have come yet, has done so many steps of the pass it is in."""
        until(lambda: self._asked(job_id)["active"])
        until(lambda: self.client.get("/sdapi/v1/progress").json()["state"]["sampling_step"] >= count)

    def _asked(self, job_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.post("/internal/progress", json={"id_task": job_id}).json()
        return answer


def until(condition: Callable[[], object], timeout: float = 120) -> None:
    """Ask again and again, for some seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"it didn't come within {timeout} s"
        time.sleep(0.01)


def content_of(answer: httpx.Response) -> dict[str, Any]:
    """What a request that went well is answered with."""
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def pictures(content: dict[str, Any]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(item))) for item in content["images"]]


@contextmanager
def running(data: Path, checkpoint: str = "") -> Iterator[Running]:
    """Page and API behind the guard over a data folder, the worker running. checkpoint: the one in use, by its name."""
    services = build_services(parse_flags(["--data-dir", str(data), *EXACT], {})[0])
    if checkpoint:
        services.settings.update({"sd_model_checkpoint": services.checkpoints.find(checkpoint).title})
    guard = Guard(build_app(services))
    services.jobs.start()
    try:
        with serving(guard) as url, httpx.Client(base_url=url, timeout=240) as client:
            yield Running(url, services, client, guard)
    finally:
        assert services.jobs.close(timeout=120)
        services.checkpoints.close()


@pytest.fixture(scope="session")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two tiny checkpoints, one that is none, and a style."""
    data = tmp_path_factory.mktemp("data")
    models = data / "models" / "Stable-diffusion"
    tiny_checkpoint(models, "first", seed=1)
    tiny_checkpoint(models, "second", seed=2)
    (models / "broken.safetensors").write_bytes(b"not a model")
    (data / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink drawing of {prompt},photo\n")
    with running(data, "first") as easel:
        yield easel


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def data(easel: Running) -> Path:
    return easel.services.paths.data
