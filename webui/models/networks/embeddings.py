"""Textual inversions: vectors that stand where a prompt names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from webui.catalog.embedding_image import SUFFIXES as IMAGE_SUFFIXES
from webui.catalog.embedding_image import read_embedding_image
from webui.catalog.networks import embedding_shape, embedding_tensors
from webui.core.errors import BadModelFile
from webui.models.text_encoders import ClipEncoder
from webui.models.weights import open_weights

PAIR = ("clip_l", "clip_g")


@dataclass(frozen=True)
class Embedding:
    """vectors: (n, D) fp32, under the name of the text encoder they are for, or one under "" that suits any.

    digest: the hash that the infotext shows, "" while it isn't known.
    """

    name: str
    vectors: Mapping[str, Tensor]
    digest: str = ""

    @property
    def count(self) -> int:
        """Places in a prompt."""
        return len(next(iter(self.vectors.values())))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels, for each text encoder; see `EmbeddingFacts.widths`."""
        return tuple(vectors.shape[1] for vectors in self.vectors.values())

    def of(self, encoder: ClipEncoder | str) -> Tensor | None:
        """The vectors for one text encoder, None when it has none for it."""
        name = encoder if isinstance(encoder, str) else encoder.name
        return self.vectors.get(name, self.vectors.get(""))


def read_embedding(path: Path, name: str, digest: str = "") -> Embedding:
    """Raises: BadModelFile with one sentence."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        found = read_embedding_image(path)
        if found is None:
            raise BadModelFile(f"{path.name} is a picture without an embedding in it.")
        tensors = {key: torch.from_numpy(value) for key, value in found.tensors.items()}
    else:
        file = open_weights(path)
        tensors = {key: file.tensor(key) for key in embedding_tensors(file.shapes, path.name)}
    return embedding_of(tensors, name, path.name, digest)


def embedding_of(tensors: Mapping[str, Tensor], name: str, file: str, digest: str = "") -> Embedding:
    """tensors: as a file stores them. Raises: BadModelFile for those that make no embedding."""
    embedding_shape({key: tuple(tensor.shape) for key, tensor in tensors.items()}, file)
    chosen = [key for key in PAIR if key in tensors]
    vectors = {key: _vectors(tensors[key]) for key in chosen} or {"": _vectors(next(iter(tensors.values())))}
    if not all(bool(torch.isfinite(part).all()) for part in vectors.values()):
        raise BadModelFile(f"{file} is damaged: its vectors hold NaN or infinity.")
    return Embedding(name, vectors, digest)


def _vectors(tensor: Tensor) -> Tensor:
    rows = tensor.detach().to(torch.float32).clone()
    return rows if rows.ndim == 2 else rows.unsqueeze(0)
