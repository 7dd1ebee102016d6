"""Recordings of extensions on the original program: their folder, and requests made again as they were made there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.running import EXACT
from webui.api.schema import ImageToImageBody, TextToImageBody, request_of
from webui.core.flags import parse_flags
from webui.core.request import GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.generate import run
from webui.services.building import build_services
from webui.services.services import Services


def recorded_folder(parity: Path, name: str) -> Path:
    """Skips where the recordings are not."""
    folder = parity / name
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"the recordings are not at {folder}")
    return folder


def unpack_models(parity: Path, name: str, data: Path) -> Path:
    """Put the recordings' models of that kind into a data folder's models. Returns: where they are."""
    unpacked, target = data / "unpacked", data / "models" / name
    subprocess.run([sys.executable, parity / "unpack.py", unpacked], check=True, capture_output=True)
    shutil.move(unpacked / name, target)
    shutil.rmtree(unpacked)
    return target


@contextmanager
def recorded_services(data: Path) -> Iterator[Services]:
    """Over a data folder that has the recorded models."""
    services = build_services(parse_flags(["--data-dir", str(data), *EXACT], {})[0])
    assert services.host.problems == ()
    services.settings.update({"sd_model_checkpoint": "tinyA"})
    yield services
    services.checkpoints.close()


@contextmanager
def one_thread(services: Services) -> Iterator[Engine]:
    """An engine that adds up in the order of the recordings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield build(services)
    torch.set_num_threads(threads)


def made(engine: Engine, endpoint: str, body: dict[str, Any], **settings: Any) -> GenerationResult:
    """What a body of the API makes. settings: overrides beside its own."""
    asked = (ImageToImageBody if endpoint.endswith("img2img") else TextToImageBody)(**body)
    request = request_of(asked, engine.host.params, engine.choices)
    request = request.replace(overrides={**(asked.override_settings or {}), **settings})
    return run(engine, engine.plan(request), JobContext.alone(engine=engine))
