"""Tensors by memory map."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from webui.core.errors import BadModelFile
from webui.models.safetensors_file import SafetensorsFile

TENSORS = {
    "half": torch.randn(3, 5).half(),
    "brain": torch.randn(7).bfloat16(),
    "float": torch.randn(2, 2, 2, 2),
    "scalar": torch.tensor(4.5),
    "whole": torch.arange(6).reshape(1, 6),
    "truth": torch.tensor([True, False]),
    "eight": torch.randn(4).to(torch.float8_e4m3fn),
    "none": torch.empty(0, 3),
}


@pytest.fixture
def file(tmp_path: Path) -> SafetensorsFile:
    save_file(TENSORS, tmp_path / "a.safetensors", {"format": "pt"})
    return SafetensorsFile(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_are_as_stored(name: str, file: SafetensorsFile) -> None:
    stored = file.tensor(name)
    assert stored.dtype == TENSORS[name].dtype == file.dtypes[name]
    assert tuple(stored.shape) == tuple(TENSORS[name].shape) == file.shapes[name]
    assert stored.float().equal(TENSORS[name].float())


def test_nothing_is_copied(file: SafetensorsFile) -> None:
    assert file.tensor("float").data_ptr() == file.tensor("float").data_ptr()


def test_writing_to_a_tensor_leaves_the_file_alone(file: SafetensorsFile) -> None:
    file.tensor("float").zero_()
    assert file.tensor("float").eq(0).all()
    assert SafetensorsFile(file.path).tensor("float").equal(TENSORS["float"])


def test_released_tensors_read_the_same_again(tmp_path: Path) -> None:
    save_file({"a": torch.arange(50_000.0), "b": torch.arange(3.0)}, tmp_path / "a.safetensors")
    file = SafetensorsFile(tmp_path / "a.safetensors")
    before = file.tensor("a").clone()
    file.release("a")
    file.release("b")
    assert file.tensor("a").equal(before)
    assert file.tensor("b").equal(torch.arange(3.0))


def test_unaligned_tensors_are_read(tmp_path: Path) -> None:
    """The format allows them: old writers didn't pad the header."""
    header = {
        "a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [3, 7]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(3) + struct.pack("<f", 2.5))
    assert SafetensorsFile(path).tensor("b").tolist() == [2.5]


def test_a_cut_off_file_is_refused(file: SafetensorsFile) -> None:
    file.path.write_bytes(file.path.read_bytes()[:-1])
    with pytest.raises(BadModelFile, match="cut off"):
        SafetensorsFile(file.path)
