"""The weights of a model in diffusers' folder layout, under the names of a single file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from webui.catalog.model_folder import checkpoint_names, part_files
from webui.catalog.shapes import Shapes
from webui.models.weights import WeightsFile, open_weights


class FolderWeights(WeightsFile):
    """Several files as one; each is mapped, none is read before it is asked for.

    Raises: BadModelFile with one sentence naming the folder or the file.
    """

    def __init__(self, folder: Path):
        parts = {name: [open_weights(file) for file in files] for name, files in part_files(folder).items()}
        keys = {name: [key for file in files for key in file.shapes] for name, files in parts.items()}
        names = checkpoint_names(folder, keys)
        self._folder = folder
        self._places: dict[str, tuple[int, WeightsFile, str]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, torch.dtype] = {}
        for number, (part, file) in enumerate((part, file) for part, files in parts.items() for file in files):
            for key, shape in file.shapes.items():
                name = names[part].get(key)
                if name is not None:
                    self._places[name] = number, file, key
                    self._shapes[name] = shape
                    self._dtypes[name] = file.dtypes[key]

    @property
    def path(self) -> Path:
        return self._folder

    @property
    def shapes(self) -> Shapes:
        return self._shapes

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        return self._dtypes

    @property
    def metadata(self) -> Mapping[str, str]:
        return {}

    def tensor(self, name: str) -> Tensor:
        _, file, key = self._places[name]
        return file.tensor(key)

    def require_whole(self) -> None:
        for file in {id(file): file for _, file, _ in self._places.values()}.values():
            file.require_whole()

    def position(self, name: str) -> int:
        """File after file; none is longer than 2^48 bytes."""
        number, file, key = self._places[name]
        return (number << 48) + file.position(key)

    def release(self, name: str) -> None:
        _, file, key = self._places[name]
        file.release(key)
