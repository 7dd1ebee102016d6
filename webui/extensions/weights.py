"""Weights for extensions, by Easel's own loaders; torch is imported when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from webui.core.choices import load_function

if TYPE_CHECKING:
    from torch import Tensor


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or PyTorch file by name; nothing in the file is run, whatever it is called.

    They share the file's memory map: what is not used is not read. Wrappers such as `state_dict` are taken off. To be
    called in the worker thread. Raises: BadModelFile with a sentence that names the file and the fault.
    """
    file = load_function("webui.models.weights:open_weights")(path)
    return {name: file.tensor(name) for name in file.shapes}


def read_weights_metadata(path: Path) -> Mapping[str, str]:
    """What a .safetensors file tells of its tensors; nothing for a PyTorch file.

    To be called in the worker thread. Raises: BadModelFile as `read_weights`.
    """
    metadata: Mapping[str, str] = load_function("webui.models.weights:open_weights")(path).metadata
    return metadata
