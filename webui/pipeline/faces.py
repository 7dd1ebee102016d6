"""Faces of finished pictures restored, in txt2img, img2img and Extras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.core.choices import FaceRestorer, load_function
from webui.models.faces.detector import Face, FaceDetector
from webui.models.faces.restorer import load_face_network, with_restored_faces
from webui.models.manager import ModelManager


def restore_faces(image: Image.Image, restorer: FaceRestorer, models: ModelManager, weight: float) -> Image.Image:
    """The picture with its faces restored; as it is when it shows none. Raises: BadModelFile."""
    restored: Image.Image = load_function(restorer.function)(image, restorer, models, weight)
    return restored


def by_network(image: Image.Image, restorer: FaceRestorer, models: ModelManager, weight: float) -> Image.Image:
    """As `restore_faces`, by a network in a file. Raises: BadModelFile."""
    assert restorer.file is not None, "files are required before"
    file, placement = restorer.file, models.placement
    opaque = image.convert("RGB")
    faces = find_faces(np.asarray(opaque), restorer.detector, models)
    if not faces:
        return image
    identity = _identity(file)
    key = ("face restorer", *identity, placement.device)
    with models.borrow(key, lambda: load_face_network(file, placement), identity[1]) as network:
        return with_restored_faces(opaque, faces, lambda crop: network.restore(crop, weight))


def find_faces(pixels: NDArray[np.uint8], files: Sequence[Path], models: ModelManager) -> list[Face]:
    """The faces in (h, w, 3) RGB from left to right. files: of the networks that find them. Raises: BadModelFile."""
    sizes, device = [_identity(path) for path in files], models.placement.device
    with models.borrow(
        ("face detector", *sizes), lambda: FaceDetector(files, device), sum(size[1] for size in sizes)
    ) as detector:
        return detector.find(pixels)


def _identity(file: Path) -> tuple[str, int, int]:
    stat = file.stat()
    return str(file), stat.st_size, stat.st_mtime_ns
