"""A server's parts without the server, a tiny checkpoint and a folder of pictures to learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.running import EXACT
from tests.tiny import tiny_checkpoint
from webui.core.flags import parse_flags
from webui.core.training import TrainingRequest
from webui.core.training_data import DataRequest
from webui.planning.training import TrainingPlan
from webui.services.building import build_services
from webui.services.services import Services
from webui.services.training import training_planner


def pictures(folder: Path, count: int = 4, size: int = 64, caption: str = "sks thing") -> Path:
    """Coloured discs, each with a caption."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:size, :size] / size - 0.5
    for number in range(count):
        disc = (x**2 + y**2 < 0.1 + 0.01 * number)[..., None]
        pixels = np.where(disc, (250, 120 + 10 * number, 30), (20, 40, 200)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder."""
    folder = tmp_path_factory.mktemp("data")
    tiny_checkpoint(folder / "models" / "Stable-diffusion", dtype="F32")
    pictures(folder / "train" / "1_sks thing")
    pictures(folder / "classes", 3, caption="thing")
    return folder


@pytest.fixture(scope="module")
def services(data: Path) -> Iterator[Services]:
    built = build_services(parse_flags(["--data-dir", str(data), *EXACT], {})[0])
    built.settings.update({"sd_model_checkpoint": "tiny"})
    yield built
    built.checkpoints.close()


Ask = Callable[..., TrainingRequest]


@pytest.fixture
def ask(data: Path) -> Ask:
    """Makes a small request: `ask("name", kind="lora", steps=4, **groups)`."""

    def make(name: str, *, steps: int = 4, seed: int = 5, rate: float = 1e-2, **groups: object) -> TrainingRequest:
        folder = DataRequest(train_data_dir=str(data / "train"), resolution="64", min_bucket_reso=64)
        request = TrainingRequest.checked(name=name, data=folder)
        wanted = request.optimization.replace(max_train_steps=steps, seed=seed, learning_rate=rate)
        return TrainingRequest.checked(**{"name": name, "data": folder, "optimization": wanted, **groups})

    return make


@pytest.fixture
def plan(services: Services) -> Callable[[TrainingRequest], TrainingPlan]:
    return lambda request: training_planner(services).plan(request, services.settings.snapshot())
