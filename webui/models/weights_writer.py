"""Files of weights, written tensor by tensor: no more than one of them is held."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch._utils import _rebuild_tensor_v2

from webui.models.safetensors_file import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}
STORAGES: Mapping[torch.dtype, Any] = {
    torch.float32: torch.FloatStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.float64: torch.DoubleStorage,
    torch.int32: torch.IntStorage,
    torch.int64: torch.LongStorage,
    torch.int16: torch.ShortStorage,
    torch.uint8: torch.ByteStorage,
    torch.int8: torch.CharStorage,
    torch.bool: torch.BoolStorage,
}
"""torch's storages by dtype; the newer dtypes (8-bit floats) have none that other programs read."""


@dataclass(frozen=True)
class Entry:
    """A tensor to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def in_writing_order(entries: Iterable[Entry]) -> list[Entry]:
    """The widest dtypes first, so that every tensor of a safetensors file is aligned."""
    return sorted(entries, key=lambda entry: -entry.dtype.itemsize)


def write_safetensors(
    file: BinaryIO, entries: Sequence[Entry], tensors: Iterable[Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """entries: in writing order; tensors: the same ones, made as they are asked for."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata is not None else {}
    at = 0
    for entry in entries:
        end = at + entry.size
        header[entry.name] = {"dtype": NAMES[entry.dtype], "shape": list(entry.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for entry, tensor in zip(entries, tensors, strict=True):
        file.write(_raw(entry, tensor))


class _Numbers:
    """Stands for a storage while the table of tensors is pickled."""

    def __init__(self, key: str, entry: Entry):
        self.key = key
        self.entry = entry


class _Described:
    """Pickled as torch pickles a tensor over a storage of its own."""

    def __init__(self, numbers: _Numbers):
        self.numbers = numbers

    def __reduce__(self) -> tuple[Any, ...]:
        shape = self.numbers.entry.shape
        stride = torch.empty(shape, device="meta").stride()
        return _rebuild_tensor_v2, (self.numbers, 0, shape, stride, False, OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _Numbers):
            return None
        entry = value.entry
        return "storage", STORAGES[entry.dtype], value.key, "cpu", math.prod(entry.shape)


def write_checkpoint(file: BinaryIO, entries: Sequence[Entry], tensors: Iterable[Tensor]) -> None:
    """torch.save's zip layout with a table of tensors. Raises: KeyError for a dtype that has no storage.

    Source: pytorch/pytorch, torch/serialization.py.
    """
    table = {entry.name: _Described(_Numbers(str(key), entry)) for key, entry in enumerate(entries)}
    pickled = io.BytesIO()
    _Pickler(pickled, protocol=2).dump(table)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, (entry, tensor) in enumerate(zip(entries, tensors, strict=True)):
            with archive.open(f"archive/data/{key}", "w", force_zip64=True) as record:
                record.write(_raw(entry, tensor))
        archive.writestr("archive/version", "3\n")


def _raw(entry: Entry, tensor: Tensor) -> memoryview:
    """The tensor's bytes, row after row."""
    assert (tensor.dtype, tuple(tensor.shape)) == (entry.dtype, entry.shape), f"{entry} got another tensor"
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")  # type: ignore[arg-type]
