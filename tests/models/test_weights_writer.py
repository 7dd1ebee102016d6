"""Files written tensor by tensor are those that the usual libraries read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from webui.models.pickle_file import PickleFile
from webui.models.safetensors_file import SafetensorsFile
from webui.models.weights_writer import STORAGES, Entry, in_writing_order, write_checkpoint, write_safetensors

TENSORS = {
    "byte": torch.arange(3, dtype=torch.uint8),
    "half": torch.randn(3, 5).half(),
    "brain": torch.randn(7).bfloat16(),
    "turned": torch.randn(4, 6).t(),
    "scalar": torch.tensor(4.5),
    "whole": torch.arange(6).reshape(1, 6),
    "truth": torch.tensor([True, False]),
    "none": torch.empty(0, 3),
    "ünï": torch.randn(2),
}


def entries_of(tensors: dict[str, Tensor]) -> list[Entry]:
    return in_writing_order(Entry(name, value.dtype, tuple(value.shape)) for name, value in tensors.items())


def test_safetensors(tmp_path: Path) -> None:
    tensors = {**TENSORS, "eight": torch.randn(4).to(torch.float8_e4m3fn)}
    path, entries = tmp_path / "a.safetensors", entries_of(tensors)
    with path.open("wb") as file:
        write_safetensors(file, entries, (tensors[entry.name] for entry in entries), {"format": "pt", "ä": '"quoted"'})
    read = load_file(path)
    assert read.keys() == tensors.keys()
    assert all(read[name].float().equal(value.float()) for name, value in tensors.items())
    assert {name: value.dtype for name, value in read.items()} == {name: v.dtype for name, v in tensors.items()}
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "ä": '"quoted"'}


def test_every_tensor_is_aligned_and_files_without_metadata_have_none(tmp_path: Path) -> None:
    path, entries = tmp_path / "a.safetensors", entries_of(TENSORS)
    with path.open("wb") as file:
        write_safetensors(file, entries, (TENSORS[entry.name] for entry in entries))
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] % 8 == 0
    mapped = SafetensorsFile(path)
    assert dict(mapped.metadata) == {}
    for name in TENSORS:
        assert mapped.position(name) % mapped.dtypes[name].itemsize == 0


def test_a_checkpoint_is_read_by_torch_and_by_us(tmp_path: Path) -> None:
    path, entries = tmp_path / "a.ckpt", entries_of(TENSORS)
    with path.open("wb") as file:
        write_checkpoint(file, entries, (TENSORS[entry.name] for entry in entries))
    ours = PickleFile(path)
    theirs = torch.load(path, weights_only=True)
    for name, value in TENSORS.items():
        for read in (theirs[name], ours.tensor(name)):
            assert read.equal(value), name
            assert read.dtype == value.dtype, name
    assert theirs.keys() == ours.shapes.keys() == TENSORS.keys()


@pytest.mark.parametrize("dtype", STORAGES)
def test_every_dtype_that_a_checkpoint_holds(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.arange(2).to(dtype)
    with (tmp_path / "a.ckpt").open("wb") as file:
        write_checkpoint(file, entries_of({"a": tensor}), [tensor])
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["a"].equal(tensor)
