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
class Source:
    """Where in the file a weight lies.

    part, parts: it is the part-th of so many equal parts of the stored tensor's first axis (fused q, k and v).
    transposed: the file has its axes the other way round. swapped: the halves of its first axis change places.
    """

    key: str
    part: int = 0
    parts: int = 1
    transposed: bool = False
    swapped: bool = False

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """What is left of a stored tensor's shape; a length that can't be divided stays."""
        if self.transposed:
            return stored[::-1]
        if self.parts == 1 or not stored or stored[0] % self.parts:
            return stored
        return (stored[0] // self.parts, *stored[1:])

    def read(self, stored: Tensor) -> Tensor:
        """The weight, in the stored tensor's memory except for swapped halves."""
        if self.transposed:
            return stored.T
        if self.swapped:
            return torch.cat(stored.chunk(2)[::-1])
        return stored.chunk(self.parts)[self.part] if self.parts > 1 else stored


@dataclass(frozen=True)
class Component:
    """A module on the meta device and where in the file its weights are. sources: module's key -> place in the file."""

    title: str
    module: nn.Module
    sources: Mapping[str, Source]

    def check(self, file: WeightsFile) -> None:
        """Raises: BadModelFile naming how many weights are missing or misshapen, and the first few."""
        wanted = self.module.state_dict()
        assert wanted.keys() == self.sources.keys(), "the key mapping must cover the module"
        missing = list(dict.fromkeys(s.key for s in self.sources.values() if s.key not in file.shapes))
        if missing:
            raise BadModelFile(f"{file.path.name} is incomplete: its {self.title} lacks {_some(missing)}.")
        wrong = [
            f"{source.key} {list(found)} instead of {list(wanted[key].shape)}"
            for key, source in self.sources.items()
            if _without_trailing_ones(found := source.shape(file.shapes[source.key]))
            != _without_trailing_ones(tuple(wanted[key].shape))
        ]
        if wrong:
            raise BadModelFile(f"{file.path.name} doesn't fit together: its {self.title} has {_some(wrong)}.")
        whole = [s.key for s in self.sources.values() if not file.dtypes[s.key].is_floating_point]
        if whole:
            raise BadModelFile(
                f"{file.path.name} stores weights of its {self.title} as whole numbers ({_some(whole)}): it is "
                "quantised in a way that this version doesn't read; take the fp16 or fp8 file."
            )

    def weight_bytes(self, dtype: torch.dtype) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.module.state_dict().values()) * dtype.itemsize

    def fill(self, file: WeightsFile, dtype: torch.dtype, device: torch.device, channels_last: bool = False) -> None:
        """Give the module its weights: the file's own memory where dtype and device agree, else one converted copy."""
        shells, weights = self.module.state_dict(), {}
        for key, source in sorted(self.sources.items(), key=lambda item: (file.position(item[1].key), item[1].part)):
            stored = file.tensor(source.key)
            weight = source.read(scaled(stored, source.key, file)).reshape(shells[key].shape)
            weight = _converted(weight, dtype, device, channels_last)
            if weight.untyped_storage().data_ptr() != stored.untyped_storage().data_ptr():
                file.release(source.key)
            weights[key] = weight
        self.module.load_state_dict(weights, assign=True)
        self.module.to(device).eval().requires_grad_(False)


def scaled(stored: Tensor, key: str, file: WeightsFile) -> Tensor:
    """An fp8 weight in numbers: times the scale that stands beside it as `<name>.scale_weight`, if any.

    Others as they are.
    """
    scale = key.removesuffix("weight") + "scale_weight"
    if stored.dtype.itemsize > 1 or not stored.dtype.is_floating_point or scale not in file.shapes:
        return stored
    return stored.float() * file.tensor(scale).float().reshape(-1, *[1] * (stored.ndim - 1))


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
