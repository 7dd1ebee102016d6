"""One running Easel for the tests of the API: the real application with a tiny model, over real HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.api.server import serving
from tests.tiny import tiny_checkpoint
from webui.api.guard import Guard
from webui.app import build_app, build_services
from webui.core.flags import parse_flags
from webui.desk.services import Services

FLAGS = ["--no-half", "--precision", "full", "--device", "cpu"]


@dataclass(frozen=True)
class Running:
    """url: where it answers. client: one that asks there."""

    url: str
    services: Services
    client: httpx.Client
    guard: Guard


@pytest.fixture(scope="session")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Page and API behind the guard, its data in a folder of its own, two tiny checkpoints, the worker running."""
    data = tmp_path_factory.mktemp("data")
    models = data / "models" / "Stable-diffusion"
    tiny_checkpoint(models, "first", seed=1)
    tiny_checkpoint(models, "second", seed=2)
    (models / "broken.safetensors").write_bytes(b"not a model")
    (data / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink drawing of {prompt},photo\n")
    flags, _ = parse_flags(["--data-dir", str(data), *FLAGS], {})
    services = build_services(flags)
    services.settings.update({"sd_model_checkpoint": services.checkpoints.find("first").title})
    guard = Guard(build_app(services))
    services.jobs.start()
    try:
        with serving(guard) as url, httpx.Client(base_url=url, timeout=120) as client:
            yield Running(url, services, client, guard)
    finally:
        assert services.jobs.close(timeout=30)
        services.checkpoints.close()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def data(easel: Running) -> Path:
    return easel.services.paths.data
