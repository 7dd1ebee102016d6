"""Face models: a face kept as a file, so that its picture isn't needed any more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from webui.extensions.api import BadModelFile, InvalidRequest, NotFound, atomic_file, read_weights

from .faces import Face, from_tensors, to_tensors

FOLDER = ("reactor", "faces")
ENDING = ".safetensors"
MEAN, MEDIAN, MODE = METHODS = ("Mean", "Median", "Mode")
LARGEST = 2**20
_NAME = re.compile(r"[\w][\w .,()+-]{0,99}")


def folder_in(models: Path) -> Path:
    return models.joinpath(*FOLDER)


def names_in(models: Path) -> list[str]:
    """The files' names without their ending."""
    return sorted((file.stem for file in folder_in(models).glob(f"*{ENDING}") if file.is_file()), key=str.lower)


def load(models: Path, name: str) -> Face:
    """Raises: NotFound, BadModelFile."""
    stem = name.removesuffix(ENDING)
    if stem not in names_in(models):
        known = ", ".join(names_in(models)[:5]) or "none"
        raise NotFound(f'There is no face model "{name[:100]}"; in models/{"/".join(FOLDER)} there are: {known}.')
    path = folder_in(models) / (stem + ENDING)
    if path.stat().st_size > LARGEST:
        raise BadModelFile(f"{path.name} is larger than any face model.")
    try:
        return from_tensors({key: tensor.numpy() for key, tensor in read_weights(path).items()})
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise BadModelFile(f"{path.name} is no face model: {error}.") from error


def save(models: Path, name: str, face: Face) -> Path:
    """Over one of the same name. Raises: InvalidRequest for a name that no file can have, OSError."""
    from safetensors.numpy import save as to_bytes

    stem = name.strip().removesuffix(ENDING)
    if not _NAME.fullmatch(stem) or stem.endswith((".", " ")):
        raise InvalidRequest(
            f'"{name[:100]}" can\'t be the name of a face model; use letters, digits, spaces and - _ .'
        )
    path = folder_in(models) / (stem + ENDING)
    with atomic_file(path) as file:
        file.write(to_bytes(to_tensors(face)))
    return path


def blended(faces: Sequence[Face], method: str) -> Face:
    """One face of several: its embedding is theirs element by element, all else is the first one's.

    The mode of numbers that are all different is the smallest. Raises: InvalidRequest.
    """
    embeddings = [face.embedding for face in faces]
    if not faces or any(embedding is None for embedding in embeddings):
        raise InvalidRequest("A face model needs at least one face that is described.")
    if len({np.shape(embedding) for embedding in embeddings}) > 1:
        raise InvalidRequest("The faces are described by different numbers of values; they can't be blended.")
    stacked = np.stack([np.asarray(embedding, np.float32) for embedding in embeddings])
    if method == MEAN:
        found = stacked.mean(0)
    elif method == MEDIAN:
        found = np.median(stacked, 0)
    else:
        found = modes(stacked)
    return replace(faces[0], embedding=found.astype(np.float32))


def modes(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, width) -> (width,) the most frequent value of each column, the smallest of those that are equally so."""
    ordered = np.sort(stacked, 0)
    counts = (ordered[None] == ordered[:, None]).sum(1)
    return np.asarray(np.take_along_axis(ordered, counts.argmax(0)[None], 0)[0], np.float32)
