"""From a file's tensors to a module with weights, without holding them twice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from webui.core.errors import BadModelFile
from webui.models.weights import WeightsFile


@dataclass(frozen=True)
class Component:
    """A module on the meta device and where in the file its weights are. sources: module's key -> file's key."""

    title: str
    module: nn.Module
    sources: Mapping[str, str]

    def check(self, file: WeightsFile) -> None:
        """Raises: BadModelFile naming how many weights are missing or misshapen, and the first few."""
        wanted = self.module.state_dict()
        assert wanted.keys() == self.sources.keys(), "the key mapping must cover the module"
        missing = [source for source in self.sources.values() if source not in file.shapes]
        if missing:
            raise BadModelFile(f"{file.path.name} is incomplete: its {self.title} lacks {_some(missing)}.")
        wrong = [
            f"{source} {list(file.shapes[source])} instead of {list(wanted[key].shape)}"
            for key, source in self.sources.items()
            if _without_trailing_ones(file.shapes[source]) != _without_trailing_ones(tuple(wanted[key].shape))
        ]
        if wrong:
            raise BadModelFile(f"{file.path.name} doesn't fit together: its {self.title} has {_some(wrong)}.")

    def weight_bytes(self, dtype: torch.dtype) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.module.state_dict().values()) * dtype.itemsize

    def fill(self, file: WeightsFile, dtype: torch.dtype, device: torch.device, channels_last: bool = False) -> None:
        """Give the module its weights: the file's own memory where dtype and device agree, else one converted copy."""
        shells, weights = self.module.state_dict(), {}
        for key, source in sorted(self.sources.items(), key=lambda pair: file.position(pair[1])):
            stored = file.tensor(source).reshape(shells[key].shape)
            weight = _converted(stored, dtype, device, channels_last)
            if weight is not stored:
                file.release(source)
            weights[key] = weight
        self.module.load_state_dict(weights, assign=True)
        self.module.to(device).eval().requires_grad_(False)


def _converted(tensor: Tensor, dtype: torch.dtype, device: torch.device, channels_last: bool) -> Tensor:
    """`tensor` itself when nothing changes."""
    if channels_last and tensor.ndim == 4:
        return tensor.to(device, dtype, memory_format=torch.channels_last)
    return tensor.to(device, dtype)


def _without_trailing_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1x1 convolution's weight (C, D, 1, 1) and a linear layer's (C, D) hold the same numbers in the same order."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _some(items: list[str], most: int = 3) -> str:
    shown = ", ".join(items[:most])
    return f"{len(items)} tensors ({shown}, ...)" if len(items) > most else shown
