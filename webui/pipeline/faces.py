"""Faces of finished pictures found and restored, in txt2img, img2img and Extras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from webui.core.choices import Choices, FaceRestorer, load_function
from webui.core.errors import BadModelFile, InvalidRequest
from webui.models.faces.detector import Face, FaceDetector
from webui.models.faces.restorer import load_face_network, with_restored_faces
from webui.models.manager import ModelManager


def restore_faces(image: Image.Image, restorer: FaceRestorer, models: ModelManager, weight: float) -> Image.Image:
    """The picture with its faces restored; as it is when it shows none. Raises: BadModelFile."""
    restored: Image.Image = load_function(restorer.function)(image, restorer, models, weight)
    return restored


def find_faces(image: Image.Image, choices: Choices, models: ModelManager) -> list[Face]:
    """The faces of a picture. Raises: InvalidRequest when the networks that find them aren't there, BadModelFile."""
    files = next((restorer.detector for restorer in choices.all(FaceRestorer) if restorer.detector), ())
    if not files or not all(file.exists() for file in files):
        raise InvalidRequest("The networks that find faces aren't here yet: fetch them on the Extras tab.")
    with _detector(files, models) as detector:
        return detector.find(np.asarray(image.convert("RGB")))


def by_network(image: Image.Image, restorer: FaceRestorer, models: ModelManager, weight: float) -> Image.Image:
    """As `restore_faces`, by a network in a file. Raises: BadModelFile."""
    assert restorer.file is not None, "files are required before"
    file, placement = restorer.file, models.placement
    opaque = image.convert("RGB")
    with _detector(restorer.detector, models) as detector:
        faces = detector.find(np.asarray(opaque))
    if not faces:
        return image
    identity = _identity(file)
    key = ("face restorer", *identity, placement.device)
    with models.borrow(key, lambda: load_face_network(file, placement), identity[1]) as network:
        return with_restored_faces(opaque, faces, lambda crop: network.restore(crop, weight))


@contextmanager
def _detector(files: Sequence[Path], models: ModelManager) -> Iterator[FaceDetector]:
    sizes = [_identity(path) for path in files]
    key, device = ("face detector", *sizes), models.placement.device
    with models.borrow(key, lambda: FaceDetector(files, device), sum(size[1] for size in sizes)) as detector:
        yield detector


def _identity(file: Path) -> tuple[str, int, int]:
    try:
        stat = file.stat()
    except OSError as error:
        raise BadModelFile(f"{file.name} can't be read: {error.strerror}.") from error
    return str(file), stat.st_size, stat.st_mtime_ns
