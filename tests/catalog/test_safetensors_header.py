"""The header check: what is believed of a .safetensors file, and what is refused in one sentence."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from webui.catalog.safetensors_header import read_header
from webui.core.errors import BadModelFile

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = bytes(8), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_a_good_file_is_read_with_offsets_from_its_beginning(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.safetensors",
        {"__metadata__": {"k": "v"}, "x": F32, "empty": {**F32, "shape": [0], "data_offsets": [8, 8]}},
    )
    header = read_header(path)
    assert dict(header.metadata) == {"k": "v"}
    entry = header.tensors["x"]
    assert (entry.dtype, entry.shape, entry.end) == ("F32", (2,), path.stat().st_size)
    assert entry.start == header.data_start


def test_space_padding_is_allowed(tmp_path: Path) -> None:
    assert read_header(write(tmp_path / "a.safetensors", json.dumps({"x": F32}).encode() + b"   ")).tensors


BROKEN: dict[str, tuple[Any, bytes, int | None]] = {
    "header length beyond the file": ({"x": F32}, b"", 10_000),
    "header length of 2^63": ({"x": F32}, b"", 1 << 63),
    "header length over the limit": ({"x": F32}, b"", 25_000_001),
    "header length 0": ({"x": F32}, b"", 0),
    "not JSON": (b"{this is not json}", b"", None),
    "a list": (b"[1, 2, 3]", b"", None),
    "not UTF-8": (b'{"\xff\xfe": 1}', b"", None),
    "nested too deep": (b'{"a":' * 50_000, b"", None),
    "duplicate names": (
        b'{"x":' + json.dumps(F32).encode() + b',"x":' + json.dumps(F32).encode() + b"}",
        bytes(8),
        None,
    ),
    "unknown dtype": ({"x": {**F32, "dtype": "F31"}}, bytes(8), None),
    "dtype of another type": ({"x": {**F32, "dtype": ["F32"]}}, bytes(8), None),
    "missing field": ({"x": {"dtype": "F32", "shape": [2]}}, bytes(8), None),
    "negative offset": ({"x": {**F32, "data_offsets": [-8, 0]}}, bytes(8), None),
    "offsets as text": ({"x": {**F32, "data_offsets": ["0", "8"]}}, bytes(8), None),
    "three offsets": ({"x": {**F32, "data_offsets": [0, 8, 16]}}, bytes(8), None),
    "negative shape": ({"x": {**F32, "shape": [-2]}}, bytes(8), None),
    "true as a size": ({"x": {**F32, "shape": [True, 2]}}, bytes(8), None),
    "huge shape": ({"x": {**F32, "shape": [1 << 40, 1 << 40]}}, bytes(8), None),
    "shape and bytes disagree": ({"x": {**F32, "shape": [3]}}, bytes(8), None),
    "overlap": ({"x": F32, "y": {**F32, "data_offsets": [4, 12]}}, bytes(12), None),
    "hole": ({"x": F32, "y": {**F32, "data_offsets": [16, 24]}}, bytes(24), None),
    "data cut off": ({"x": F32}, bytes(7), None),
    "data too long": ({"x": F32}, bytes(9), None),
    "metadata with numbers": ({"__metadata__": {"k": 1}, "x": F32}, bytes(8), None),
    "metadata as a list": ({"__metadata__": ["k"], "x": F32}, bytes(8), None),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_header_is_refused_in_one_sentence(fault: str, tmp_path: Path) -> None:
    header, data, length = BROKEN[fault]
    with pytest.raises(BadModelFile, match="bad.safetensors") as error:
        read_header(write(tmp_path / "bad.safetensors", header, data, length))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\x00\x01", "not a safetensors file"),
        (b"PK\x03\x04" + bytes(100), "pickle"),
        (b"\x80\x02}q\x00" + bytes(100), "pickle"),
        (b"GGUF" + bytes(100), "GGUF"),
        (b"<!DOCTYPE html><html>not found</html>", "not a safetensors file"),
    ],
)
def test_other_kinds_of_files_are_called_by_name(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=said):
        read_header(path)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="can't be read"):
        read_header(tmp_path / "gone.safetensors")
