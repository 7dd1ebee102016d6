"""The header of a .safetensors file: what tensors it holds and where, checked before anything is believed.

Layout: u64 little-endian header length N, N bytes of JSON, then the raw tensors.
Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import itertools
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from webui.core.errors import BadModelFile
from webui.core.texts import clean_text

MAX_HEADER = 25_000_000
"""Bytes of JSON. Real checkpoints have under one million, LoRA files with all their tags and pictures a few."""
MAX_MARKS = 400_000
"""Texts and commas in it, metadata included; a tensor has a dozen, the largest models a few thousand tensors."""
PREFIX = 8
ZIP_MAGIC = b"PK\x03\x04"

ITEM_SIZE: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 1,
        "U8": 1,
        "I8": 1,
        "F8_E5M2": 1,
        "F8_E4M3": 1,
        "I16": 2,
        "U16": 2,
        "F16": 2,
        "BF16": 2,
        "I32": 4,
        "U32": 4,
        "F32": 4,
        "F64": 8,
        "I64": 8,
        "U64": 8,
    }
)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies. start, end: bytes from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """data_start: the file offset of the first tensor byte; the "addnet" hash covers all from there on."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    data_start: int


def require_no_pointer(start: bytes, file: str) -> None:
    """Raises: BadModelFile for what Git leaves in the place of a large file that wasn't fetched. start: 8 bytes."""
    if start[:8] == b"version ":
        raise BadModelFile(
            f"{file} is not the model but a Git LFS pointer to it (a small text file): run `git lfs pull`, or download "
            "the file itself."
        )


def looks_like_pickle(start: bytes) -> bool:
    """Whether a file that begins so (8 bytes) is a zip archive or a pickle of protocol 2 to 5.

    A safetensors header of 640 bytes, say, begins with a pickle's two bytes, too; only as a length they make sense.
    """
    pickled = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return start.startswith(ZIP_MAGIC) or (pickled and int.from_bytes(start, "little") > MAX_HEADER)


def read_header(path: Path) -> SafetensorsHeader:
    """Read and check the header of `path`; no tensor data is read.

    Raises: BadModelFile with one sentence naming the file and the fault.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise BadModelFile(f"{path.name} can't be read: {error.strerror or error}.") from error


def _read(file: BinaryIO, path: Path) -> SafetensorsHeader:
    size = file.seek(0, 2)
    file.seek(0)
    if size == 0:
        raise BadModelFile(f"{path.name} is empty (0 bytes): the copy or download failed, fetch it again.")
    prefix = file.read(PREFIX)
    require_no_pointer(prefix, path.name)
    if looks_like_pickle(prefix):
        raise BadModelFile(
            f"{path.name} is a pickle file named {path.suffix}: it is refused, because pickles can run programs."
        )
    if prefix[:4] == b"GGUF":
        raise BadModelFile(f"{path.name} is a GGUF file named {path.suffix}; GGUF is not supported.")
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == PREFIX else 0
    if length < 2 or length > MAX_HEADER:
        raise BadModelFile(
            f"{path.name} is not a safetensors file: its header length reads {length} (2 to {MAX_HEADER} are possible)."
        )
    if length > size - PREFIX:
        raise BadModelFile(
            f"{path.name} is cut off: its header needs {length} bytes and {size - PREFIX} are there; fetch it again."
        )
    header = _parse(file.read(length), path)
    metadata = _metadata(header.pop("__metadata__", {}), path)
    data_start = PREFIX + length
    if any(clean_text(name) != name for name in header):
        raise BadModelFile(f"{path.name} has a broken header: the name of a tensor is no text.")
    tensors = {name: _entry(name, value, data_start, path) for name, value in header.items()}
    _check_tiling(tensors, data_start, size, path)
    return SafetensorsHeader(MappingProxyType(tensors), MappingProxyType(metadata), data_start)


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise BadModelFile(f"{path.name} is not a safetensors file: its header is not JSON.")
    _check_work(raw, path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("a name appears twice")
        return table

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f"{path.name} has a broken header ({str(error)[:120]}); fetch it again.") from error
    assert isinstance(header, dict), "JSON that begins with { is an object"
    return header


def _check_work(raw: bytes, path: Path) -> None:
    """Raises: BadModelFile when parsing would take much more time or memory than the header is long."""
    width = 4 if re.search(rb"[\xf0-\xff]", raw) else 2 if re.search(rb"[\xc4-\xef]", raw) else 1
    if len(raw) * width > MAX_HEADER or (_marks(raw) > MAX_MARKS and _has_more_tokens(raw, MAX_MARKS)):
        raise BadModelFile(f"{path.name} is refused: its header holds far more than that of any model.")


def _marks(raw: bytes) -> int:
    """How many values this JSON has, or more: texts may have such marks in them too."""
    return sum(raw.count(mark) for mark in (b",", b"[", b"{"))


def _has_more_tokens(raw: bytes, most: int) -> bool:
    """Whether there are more than `most` texts and marks, those within texts not counted."""
    tokens = re.finditer(rb'(?s)"[^"\\]*(?:\\.[^"\\]*)*"|[,[{]', raw)
    return next(itertools.islice(tokens, most, None), None) is not None


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise BadModelFile(f"{path.name} has a broken header: __metadata__ must map text to text.")
    return {clean_text(key): clean_text(text) for key, text in value.items()}


def _entry(name: str, value: Any, data_start: int, path: Path) -> TensorEntry:
    """Raises: BadModelFile unless dtype, shape and offsets are present, sane and agree."""
    fault = None
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        fault = "needs exactly dtype, shape and data_offsets"
    elif not isinstance(value["dtype"], str) or value["dtype"] not in ITEM_SIZE:
        fault = f"has the unknown dtype {str(value['dtype'])[:40]!r}"
    elif not _naturals(value["shape"]):
        fault = f"has the impossible shape {str(value['shape'])[:80]}"
    elif not _naturals(value["data_offsets"]) or len(value["data_offsets"]) != 2:
        fault = f"has the impossible offsets {str(value['data_offsets'])[:80]}"
    else:
        begin, end = value["data_offsets"]
        need = math.prod(value["shape"]) * ITEM_SIZE[value["dtype"]]
        if end - begin == need:
            return TensorEntry(value["dtype"], tuple(value["shape"]), data_start + begin, data_start + end)
        fault = f"has {end - begin} bytes, which don't fit its shape {str(value['shape'])[:80]}"
    raise BadModelFile(f"{path.name} has a broken header: tensor {name[:100]!r} {fault}.")


def _naturals(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 16
        and all(type(item) is int and 0 <= item < 1 << 48 for item in value)
    )


def _check_tiling(tensors: Mapping[str, TensorEntry], data_start: int, size: int, path: Path) -> None:
    """Tensors must cover the data area without hole or overlap and end where the file ends."""
    at = data_start
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != at:
            kind = "overlaps another" if entry.start < at else "leaves a hole before it"
            raise BadModelFile(f"{path.name} has a broken header: tensor {name[:100]!r} {kind}.")
        at = entry.end
    if size < at:
        raise BadModelFile(f"{path.name} is cut off: it has {size} of {at} bytes; copy or download it again.")
    if size > at:
        raise BadModelFile(f"{path.name} has {size - at} bytes after its last tensor; it is damaged, fetch it again.")
