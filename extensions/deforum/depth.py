"""How far away each point of a picture is, by a depth model in the layout of transformers, if one is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.extensions.api import BadModelFile, InvalidRequest, JobContext, JobKind, Params, WebuiError, param

from .camera import depth_distances
from .settings import DEPTH_ALGORITHMS

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Estimator:
    """A depth model. repository: where it is public. megabytes: about, of the download."""

    name: str
    repository: str
    megabytes: int
    licence: str

    def folder(self, models: Path) -> Path:
        """Where its files lie, or will. models: the folder of models."""
        return models / "Deforum" / "depth" / self.repository.rpartition("/")[2]

    def is_there(self, models: Path) -> bool:
        return all((self.folder(models) / file).is_file() for file in ("config.json", "model.safetensors"))

    @property
    def offer(self) -> str:
        return f"{self.name}: about {self.megabytes} MB from huggingface.co/{self.repository}, {self.licence}"


DPT = Estimator("MiDaS (DPT-Large)", "Intel/dpt-large", 1370, "Apache-2.0")
ZOE = Estimator("ZoeDepth", "Intel/zoedepth-nyu-kitti", 1380, "MIT")
DEPTH_ANYTHING = Estimator("Depth Anything V2 Small", "depth-anything/Depth-Anything-V2-Small-hf", 99, "Apache-2.0")
ESTIMATORS = {
    "Midas-3-Hybrid": DPT,
    "Midas+AdaBins (old)": DPT,
    "Zoe": ZOE,
    "Zoe+AdaBins (old)": ZOE,
    "Depth Anything": DEPTH_ANYTHING,
}
"""By depth algorithm. AdaBins and LeReS have no weights that transformers reads."""


def find_estimator(algorithm: str) -> Estimator:
    """Raises: InvalidRequest for an algorithm that no model here stands for."""
    found = ESTIMATORS.get(algorithm)
    if found is None:
        raise InvalidRequest(f"{algorithm} has no weights that Easel can run; choose {', '.join(ESTIMATORS)}.")
    return found


class DepthModel:
    """An estimator whose files are there; loaded when it is first asked, within the models' budget of memory."""

    def __init__(self, estimator: Estimator, easel: Any) -> None:
        self._models = easel.models
        self._folder = estimator.folder(Path(easel.paths.models))

    def __call__(self, picture: Any) -> Any:
        """(H, W) distances of 1 (near) to 2 (far) of a (H, W, 3) uint8 BGR picture; None for a plane.

        Raises: BadModelFile.
        """
        import torch
        from PIL import Image

        weights = (self._folder / "model.safetensors").stat()
        key = ("deforum.depth", str(self._folder), weights.st_size, weights.st_mtime_ns)
        with self._models.borrow(key, self._load, weights.st_size) as (network, processor, near_is_large):
            image = Image.fromarray(picture[..., ::-1])
            given = processor(images=image, return_tensors="pt")["pixel_values"].to(network.device)
            with torch.inference_mode():
                depth = network(pixel_values=given).predicted_depth.float()
                depth = torch.nn.functional.interpolate(
                    depth.reshape(1, 1, *depth.shape[-2:]), picture.shape[:2], mode="bicubic", align_corners=False
                )
            return depth_distances(depth[0, 0].cpu().numpy(), near_is_large)

    def _load(self) -> Any:
        from safetensors import SafetensorError
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        try:
            network = AutoModelForDepthEstimation.from_pretrained(
                self._folder, local_files_only=True, use_safetensors=True
            )
            processor = AutoImageProcessor.from_pretrained(self._folder, local_files_only=True)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise BadModelFile(f"The depth model in {self._folder} can't be loaded: {str(error)[:200]}") from error
        return network.to(self._models.placement.device).eval(), processor, near_is_large(network.config)


def near_is_large(config: Any) -> bool:
    """Whether a model gives larger numbers to nearer things, as those without a measure do; others give metres."""
    return config.model_type != "zoedepth" and getattr(config, "depth_estimation_type", "relative") != "metric"


def depth_picture(distances: Any) -> Any:
    """(H, W) uint8, white is near, of distances of 1 to 2."""
    import numpy as np

    return np.rint((2 - np.clip(distances, 1, 2)) * 255).astype(np.uint8)


class Fetch(Params):
    """An order to fetch the model of a depth algorithm."""

    algorithm: str = param(DEPTH_ALGORITHMS[2], label="Depth algorithm", choices=DEPTH_ALGORITHMS)


@dataclass(frozen=True)
class Fetched:
    message: str


def fetch(easel: Any, order: Fetch, job: JobContext) -> Fetched:
    """Bring a depth model's files. Raises: WebuiError, in one sentence when the machine is offline."""
    estimator = find_estimator(order.algorithm)
    folder = estimator.folder(Path(easel.paths.models))
    try:
        for file in FILES:
            easel.fetch(f"https://huggingface.co/{estimator.repository}/resolve/main/{file}", folder / file, job)
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadModelFile(f"What came as {folder / 'config.json'} is no JSON; delete it and try again.") from error
    except WebuiError as error:
        raise type(error)(f"{estimator.name} was not fetched: {error}") from error
    return Fetched(f"{estimator.name} is in {folder} ({estimator.licence}).")


FETCH = JobKind("deforum.fetch_depth", fetch, Fetch, Fetched, "Depth model")
