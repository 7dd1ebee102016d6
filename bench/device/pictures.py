"""Pictures of small models, and how far two of them are apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from bench.device.part import Setup
from bench.engines import build_engine
from webui.core.params import title_of
from webui.core.request import GenerationRequest
from webui.jobs.context import JobContext
from webui.models.families.base import LoadedModel
from webui.pipeline.engine import Engine
from webui.services.services import Services

T = TypeVar("T")
Pictures = list[np.ndarray]
"""(H, W, 3) each, levels of 0 to 255."""
EDGE = 64


class Stopping(JobContext):
    """A job that is told to stop at its third step."""

    def steps(self, steps: Sequence[T]) -> Iterator[T]:
        for number, step in enumerate(super().steps(steps)):
            if number == 2:
                self._publish(interrupted=True)
            yield step


class Easel:
    """An engine, and what is asked of it in short."""

    def __init__(self, services: Services, engine: Engine) -> None:
        self.services, self.engine = services, engine

    def request(self, checkpoint: str, settings: dict[str, Any] | None = None, **asked: Any) -> GenerationRequest:
        """settings: of this one job."""
        usual = {"prompt": "a red apple on a blue background", "seed": 5, "steps": 4, "sampler": "Euler"}
        usual |= {"width": EDGE, "height": EDGE, "save_samples": False, "save_grid": False}
        overrides = {"sd_model_checkpoint": checkpoint, **(settings or {})}
        return GenerationRequest(**{**usual, **asked}, overrides=overrides)

    def pictures(self, checkpoint: str, job: JobContext | None = None, **asked: Any) -> Pictures:
        """asked: as `request` takes it. Raises: WebuiError."""
        made = self.engine.generate(self.request(checkpoint, **asked), job or JobContext.alone(engine=self.engine))
        return [np.asarray(picture.convert("RGB")).astype(np.int16) for picture in made.pictures]

    def group(self, title: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """An extension's parameters, as a request's `extensions` holds them."""
        group = next(group for group in self.engine.host.params if title_of(group) == title)
        return {group.__name__: group(**arguments)}

    @contextmanager
    def model(self, checkpoint: str) -> Iterator[LoadedModel]:
        with self.engine.models.lease(self.services.checkpoints.find(checkpoint)) as model:
            yield model

    def close(self) -> None:
        self.engine.models.unload()
        self.services.checkpoints.close()


def an_easel(setup: Setup, name: str, *flags: str, device: torch.device | None = None) -> Easel:
    """An engine over a data folder of that name, whose models are those of `setup.data`."""
    models = setup.data / "models"
    folder = setup.data / name
    folder.mkdir()
    models.mkdir(exist_ok=True)
    (folder / "models").symlink_to(models, target_is_directory=True)
    return Easel(*build_engine(folder, "--device", str(device or setup.device), *flags))


def checkpoints_folder(setup: Setup) -> Path:
    return _folder(setup, "Stable-diffusion")


def loras_folder(setup: Setup) -> Path:
    return _folder(setup, "Lora")


def _folder(setup: Setup, name: str) -> Path:
    folder = setup.data / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def apart(one: Pictures, other: Pictures) -> float:
    """Mean difference in levels of the two that differ most; infinite when there isn't the same number of them."""
    if not one or [picture.shape for picture in one] != [picture.shape for picture in other]:
        return float("inf")
    return max(float(np.abs(a - b).mean()) for a, b in zip(one, other, strict=True))
