"""Tensors of a PyTorch file (.ckpt, .pt, .pth, .bin): its pickle is read as data, its numbers by memory map."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from webui.catalog.pickle_header import read_pickle
from webui.catalog.pickle_names import PickledTensor
from webui.catalog.zip_records import inflated
from webui.core.errors import BadModelFile
from webui.models.safetensors_file import DTYPES, drop_pages, require_whole


class PickleFile:
    """A checked file, opened once: what was checked is what is used. Writing to a tensor never changes the file.

    shapes, dtypes: by tensor name, wrappers such as `state_dict` taken off. metadata: always empty.
    content: all that was saved, as plain data; its `PickledTensor`s become tensors by `materialised`.
    Raises: BadModelFile with one sentence naming the file and the fault.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise BadModelFile(f"{path.name} can't be read: {error}.") from error
        weights = read_pickle(memoryview(self._map), path.name)
        self.content: Any = weights.content
        self.metadata: dict[str, str] = {}
        self.shapes = {name: stored.shape for name, stored in weights.tensors.items()}
        self.dtypes = {name: DTYPES[stored.dtype] for name, stored in weights.tensors.items()}
        self._tensors = weights.tensors
        self._records = weights.records

    def require_whole(self) -> None:
        """Raises: BadModelFile when the file was cut off since it was opened."""
        require_whole(self._map, self.path)

    def tensor(self, name: str) -> Tensor:
        """The stored tensor; it shares the map's memory unless the file is packed or ill aligned.

        Raises: BadModelFile as `require_whole`.
        """
        self.require_whole()
        return self.materialised(self._tensors[name])

    def materialised(self, stored: PickledTensor) -> Tensor:
        """The tensor that a part of `content` describes."""
        dtype = DTYPES[stored.dtype]
        if not torch.Size(stored.shape).numel():
            return torch.empty(stored.shape, dtype=dtype)
        steps = zip(stored.shape, stored.stride, strict=True)
        count = 1 + sum((size - 1) * step for size, step in steps)
        return self._numbers(stored, dtype, count).as_strided(stored.shape, stored.stride)

    def _numbers(self, stored: PickledTensor, dtype: torch.dtype, count: int) -> Tensor:
        """The part of the tensor's storage that it spans. Returns: (count,)"""
        begin, size = stored.offset * dtype.itemsize, count * dtype.itemsize
        if stored.inline is not None:
            return torch.frombuffer(bytearray(stored.inline[begin : begin + size]), dtype=dtype)
        record = self._records[stored.storage.key]
        if record.deflated:
            raw = inflated(memoryview(self._map), record, self.path.name)
            return torch.frombuffer(bytearray(raw[begin : begin + size]), dtype=dtype)
        start = record.start + begin
        if start % dtype.itemsize:
            return torch.frombuffer(bytearray(self._map[start : start + size]), dtype=dtype)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start)

    def position(self, name: str) -> int:
        """Where in the file the tensor's storage begins."""
        key = self._tensors[name].storage.key
        return self._records[key].start if key in self._records else 0

    def release(self, name: str) -> None:
        """Give back the memory that reading `name` took; the map stays usable. For tensors copied elsewhere."""
        record = self._records.get(self._tensors[name].storage.key)
        if record is not None and not record.deflated:
            drop_pages(self._map, record.start, record.start + record.stored)
