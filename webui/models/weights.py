"""A file of weights, whatever its format: told apart by content, never by its suffix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from webui.catalog.safetensors_header import PREFIX, looks_like_pickle
from webui.catalog.shapes import Shapes
from webui.core.errors import BadModelFile
from webui.models.pickle_file import PickleFile
from webui.models.safetensors_file import SafetensorsFile


class WeightsFile(Protocol):
    """Tensors by name, of which none is read before it is asked for."""

    @property
    def path(self) -> Path: ...
    @property
    def shapes(self) -> Shapes: ...
    @property
    def dtypes(self) -> Mapping[str, torch.dtype]: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...

    def require_whole(self) -> None:
        """Raises: BadModelFile when the file was cut off since it was opened: its tensors must not be touched then."""

    def tensor(self, name: str) -> Tensor:
        """The stored tensor, sharing the file's memory map where it can. Raises: BadModelFile as `require_whole`."""

    def position(self, name: str) -> int:
        """Where in the file the tensor begins: reading in this order suits every disk."""

    def release(self, name: str) -> None:
        """Give back the memory that reading `name` took. For tensors copied elsewhere."""


def open_weights(path: Path) -> WeightsFile:
    """A checked file, safetensors or PyTorch's; nothing in it is run, whatever it is called.

    Raises: BadModelFile with one sentence; also for a pickle that is named .safetensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(PREFIX)
    except OSError as error:
        raise BadModelFile(f"{path.name} can't be read: {error.strerror or error}.") from error
    if looks_like_pickle(start) and path.suffix.lower() != ".safetensors":
        return PickleFile(path)
    return SafetensorsFile(path)
