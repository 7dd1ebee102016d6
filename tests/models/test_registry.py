"""Files that can't be opened answer one sentence."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.families import FAMILIES
from webui.core.errors import BadModelFile
from webui.models.registry import LOADERS, open_checkpoint


def write_empty(path: Path, keys: list[str]) -> Path:
    header = json.dumps({key: {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]} for key in keys}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_every_family_that_can_do_something_can_be_loaded() -> None:
    assert {family.id for family in FAMILIES if family.usual} == LOADERS.keys()


def test_a_family_to_come_is_refused_by_its_name(tmp_path: Path, described: Callable[[Path], Checkpoint]) -> None:
    path = write_empty(tmp_path / "f.safetensors", ["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"])
    with pytest.raises(BadModelFile, match="f.safetensors can't be loaded: Flux checkpoints are not supported yet"):
        open_checkpoint(described(path))


def test_a_problem_that_the_catalog_saw_is_repeated(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="is a pickle"):
        open_checkpoint(Checkpoint(tmp_path / "x.ckpt", "x.ckpt", 1, 1, problem="x.ckpt is a pickle."))


@pytest.mark.parametrize("garbage", [b"", b"garbage", bytes(5000), b"PK\x03\x04" + bytes(5000)])
def test_garbage_is_one_sentence(garbage: bytes, tmp_path: Path, described: Callable[[Path], Checkpoint]) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(garbage)
    with pytest.raises(BadModelFile, match=r"^x\.safetensors [^\n]*$"):
        open_checkpoint(described(path))
