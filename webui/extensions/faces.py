"""Faces for extensions, by Easel's own networks; to be called in the worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.core.choices import Choices, load_function
from webui.core.errors import InvalidRequest
from webui.core.packaged import FACE_DETECTOR

if TYPE_CHECKING:
    from PIL.Image import Image


def find_faces(pixels: Any, folder: Path, models: Any) -> Sequence[Any]:
    """The faces in a (h, w, 3) uint8 RGB array, from left to right: `box`, `points` (5, 2) and `score` of each.

    folder: of models, where the detector's files lie. models: as of a pass.
    Raises: InvalidRequest telling what to do when they don't, BadModelFile.
    """
    missing = missing_detector(folder)
    if missing:
        raise InvalidRequest(missing)
    files = [weights.path(folder) for weights in FACE_DETECTOR]
    found: Sequence[Any] = load_function("webui.pipeline.faces:find_faces")(pixels, files, models)
    return found


def missing_detector(folder: Path) -> str:
    """What to do about the files of the face detector that aren't there, "" when all are."""
    return next((weights.missing for weights in FACE_DETECTOR if not weights.path(folder).exists()), "")


def restore_faces(image: Image, name: str, weight: float, choices: Choices, models: Any) -> Image:
    """The picture with its faces restored by the face restorer of that name.

    weight: 0 changes faces most, 1 least, where the network heeds it. Raises: as `Choices.find_face_restorer`.
    """
    restorer = choices.find_face_restorer(name)
    restored: Image = load_function(restorer.function)(image, restorer, models, weight)
    return restored
