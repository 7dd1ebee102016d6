"""The same request makes the same picture: again, in a batch or alone, and on any number of threads."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.engines import exact_engine
from tests.recordings import difference
from tests.tiny import tiny_checkpoint
from webui.core.request import GenerationRequest, GenerationResult, HiresFix
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.pipeline.generate import run

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {"prompt": "a cat", "steps": 3, "width": 64, "height": 64, "seed": 7}
QUIET: dict[str, Any] = {"save_samples": False, "save_grid": False}
ONE_LEVEL = 1
"""Of 255: what adding in another order may move a value by."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    tiny_checkpoint(folder / "models" / "Stable-diffusion")
    return folder


@pytest.fixture(scope="module")
def engine(data: Path) -> Iterator[Engine]:
    with exact_engine(data) as engine:
        yield engine


def made(engine: Engine, **values: Any) -> GenerationResult:
    return run(engine, engine.plan(GenerationRequest(**{**SMALL, **QUIET, **values})), JobContext.alone())


def apart(a: bytes, b: bytes) -> int:
    """The largest difference of two pictures, in levels of 255."""
    found = difference(Image.open(io.BytesIO(a)), Image.open(io.BytesIO(b)))
    assert found is not None
    return found.maximum


@pytest.mark.parametrize(
    "values",
    [
        {"sampler": "Euler a"},
        {"sampler": "DPM++ SDE", "batch_size": 2},
        {"sampler": "Euler", "hires": HiresFix(scale=1.5, upscaler="Lanczos")},
        {"sampler": "DPM++ 2M", "overrides": {"samples_format": "jpg", "randn_source": "NV"}},
    ],
)
def test_the_same_request_gives_equal_bytes(engine: Engine, values: dict[str, Any]) -> None:
    first, second = made(engine, **values), made(engine, **values)
    assert [image.data for image in first.images] == [image.data for image in second.images]


def test_a_request_between_changes_nothing(engine: Engine) -> None:
    first = made(engine, sampler="Euler a").images[0].data
    made(engine, sampler="DPM++ SDE", seed=99, batch_size=2, prompt="a (dog:1.3) [and:or:2] a bird")
    assert made(engine, sampler="Euler a").images[0].data == first


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ SDE", "DPM++ 2M", "DDIM", "UniPC"])
def test_four_in_a_batch_equal_four_alone(engine: Engine, sampler: str) -> None:
    batch = made(engine, sampler=sampler, batch_size=4)
    for index, image in enumerate(batch.images):
        alone = made(engine, sampler=sampler, seed=SMALL["seed"] + index)
        assert apart(image.data, alone.images[0].data) <= ONE_LEVEL, f"picture {index}"
        assert image.infotext == alone.images[0].infotext


def test_four_in_a_batch_equal_four_one_after_the_other(engine: Engine) -> None:
    together, in_a_row = made(engine, batch_size=4), made(engine, batch_count=4)
    for a, b in zip(together.images, in_a_row.images, strict=True):
        assert apart(a.data, b.data) <= ONE_LEVEL


ON_THREADS = """
import sys
from pathlib import Path
import torch
from tests.pipeline.test_determinism import made, SMALL
from webui.services.building import build_services
from webui.core.flags import parse_flags
from webui.pipeline.engine import build
flags, _ = parse_flags(["--data-dir", sys.argv[1], "--no-half", "--precision", "full", "--device", "cpu"], {})
services = build_services(flags)
services.settings.update({"sd_model_checkpoint": "tiny"})
assert torch.get_num_threads() == int(sys.argv[2]), torch.get_num_threads()
Path(sys.argv[3]).write_bytes(made(build(services), sampler="Euler a", width=128, batch_size=2).images[1].data)
services.checkpoints.close()
"""


def test_the_number_of_threads_changes_no_more_than_rounding(data: Path, tmp_path: Path) -> None:
    running = []
    for threads in (1, 2):
        place = tmp_path / f"{threads}"
        place.mkdir()
        (place / "models").symlink_to(data / "models")
        environ = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-c", ON_THREADS, str(place), str(threads), str(place / "made.png")]
        running.append(subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE))
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()
    one, two = ((tmp_path / str(threads) / "made.png").read_bytes() for threads in (1, 2))
    assert apart(one, two) <= ONE_LEVEL
