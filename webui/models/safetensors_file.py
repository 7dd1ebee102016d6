"""Tensors of a .safetensors file, by memory map: nothing is read before it is used."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from webui.catalog.safetensors_header import ITEM_SIZE, read_header
from webui.core.errors import BadModelFile

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "BOOL": torch.bool,
        "U8": torch.uint8,
        "I8": torch.int8,
        "F8_E5M2": torch.float8_e5m2,
        "F8_E4M3": torch.float8_e4m3fn,
        "I16": torch.int16,
        "U16": torch.uint16,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I32": torch.int32,
        "U32": torch.uint32,
        "F32": torch.float32,
        "F64": torch.float64,
        "I64": torch.int64,
        "U64": torch.uint64,
    }
)
assert DTYPES.keys() == ITEM_SIZE.keys(), "a dtype the header check accepts has no tensor type"


class SafetensorsFile:
    """A checked file, mapped privately: writing to a tensor changes memory, never the file.

    Tensors keep the map alive; the file may be replaced (renamed over) meanwhile, but not rewritten in place: what is
    cut off can't be read any more, and the system ends a process that tries.

    shapes, dtypes: by tensor name. metadata: the header's text fields.
    Raises: BadModelFile with one sentence naming the file and the fault.
    """

    def __init__(self, path: Path):
        header = read_header(path)
        self.path = path
        self.metadata = header.metadata
        self.shapes = {name: entry.shape for name, entry in header.tensors.items()}
        self.dtypes = {name: DTYPES[entry.dtype] for name, entry in header.tensors.items()}
        self._entries = header.tensors
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise BadModelFile(f"{path.name} can't be mapped into memory: {error}.") from error
        if any(entry.end > len(self._map) for entry in header.tensors.values()):
            raise BadModelFile(f"{path.name} became shorter while it was opened; wait until it is copied.")

    def require_whole(self) -> None:
        """Raises: BadModelFile when the file was cut off since it was opened."""
        require_whole(self._map, self.path)

    def tensor(self, name: str) -> Tensor:
        """The stored tensor, sharing the map's memory. Raises: BadModelFile as `require_whole`."""
        self.require_whole()
        entry, dtype = self._entries[name], self.dtypes[name]
        count = (entry.end - entry.start) // dtype.itemsize
        if count == 0:
            return torch.empty(entry.shape, dtype=dtype)
        if entry.start % dtype.itemsize:  # legal in the format, not in memory
            raw = bytearray(self._map[entry.start : entry.end])
            return torch.frombuffer(raw, dtype=dtype).reshape(entry.shape)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=entry.start).reshape(entry.shape)

    def position(self, name: str) -> int:
        """Where in the file the tensor begins: reading in this order suits every disk."""
        return self._entries[name].start

    def release(self, name: str) -> None:
        """Give back the memory that reading `name` took; the map stays usable. For tensors copied elsewhere."""
        entry = self._entries[name]
        drop_pages(self._map, entry.start, entry.end)


def require_whole(mapped: mmap.mmap, path: Path) -> None:
    """Raises: BadModelFile when the mapped file is shorter than its map."""
    if mapped.size() < len(mapped):
        raise BadModelFile(
            f"{path.name} was cut off while it was in use: it has {mapped.size()} of {len(mapped)} bytes. Wait until "
            "it is copied whole, or copy it again."
        )


def drop_pages(mapped: mmap.mmap, start: int, end: int) -> None:
    """Give back the memory of the whole pages between two offsets; they are read again when asked for."""
    start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if end > start and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED, start, end - start)
