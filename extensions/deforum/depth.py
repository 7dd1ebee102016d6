"""How far away each point of a picture is, by a depth model in the layout of transformers, if one is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.extensions.api import BadModelFile, Fetchable, HubFile

from .camera import depth_distances

FOLDER = "Deforum/depth"
"""Below the folder of models."""
FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


@dataclass(frozen=True)
class Estimator:
    """A depth model. repository: where it is public. size: of its weights, about, in bytes."""

    name: str
    repository: str
    size: int
    licence: str

    @property
    def fetchable(self) -> Fetchable:
        """What a user can ask for."""
        short = self.repository.rpartition("/")[2]
        source = f"https://huggingface.co/{self.repository}/resolve/main"
        sizes = dict.fromkeys(FILES, 0) | {FILES[-1]: self.size}
        return Fetchable(
            f"Depth: {self.name}",
            tuple(
                HubFile(self.name, f"{source}/{file}", f"{FOLDER}/{short}/{file}", size, self.licence)
                for file, size in sizes.items()
            ),
        )

    def folder(self, models: Path) -> Path:
        """Where its files lie, or will. models: the folder of models."""
        return self.fetchable.paths(models)[0].parent

    def is_there(self, models: Path) -> bool:
        return all(path.is_file() for path in self.fetchable.paths(models))


DPT = Estimator("MiDaS (DPT-Large)", "Intel/dpt-large", 1_370_000_000, "Apache-2.0")
ZOE = Estimator("ZoeDepth", "Intel/zoedepth-nyu-kitti", 1_380_000_000, "MIT")
DEPTH_ANYTHING = Estimator(
    "Depth Anything V2 Small", "depth-anything/Depth-Anything-V2-Small-hf", 99_000_000, "Apache-2.0"
)
ESTIMATORS = {
    "Midas-3-Hybrid": DPT,
    "Midas+AdaBins (old)": DPT,
    "Zoe": ZOE,
    "Zoe+AdaBins (old)": ZOE,
    "Depth Anything": DEPTH_ANYTHING,
}
"""By depth algorithm. AdaBins and LeReS have no weights that transformers reads."""


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
