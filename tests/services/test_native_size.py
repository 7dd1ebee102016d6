from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import NATIVE_SIZE, tiny_checkpoint
from tools.random_checkpoint import TINY, write_checkpoint
from webui.catalog.checkpoints import Checkpoint
from webui.services.native_size import native_size


def checkpoint(path: Path, config: Path | None = None) -> Checkpoint:
    return Checkpoint(path, path.name, path.stat().st_size, 0, config=config)


def test_the_sidecar_tells(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path)
    assert native_size(checkpoint(path, path.with_suffix(".yaml"))) == NATIVE_SIZE


def test_the_metadata_tells(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    write_checkpoint(path, TINY, metadata={"easel": json.dumps({"native_size": 128})}, sidecar=False)
    assert native_size(checkpoint(path)) == 128


@pytest.mark.parametrize("content", ["", "model: [", "model: {params: {native_size: 77}}", "model: 3", "\x00"])
def test_else_it_is_512(tmp_path: Path, content: str) -> None:
    path = tiny_checkpoint(tmp_path)
    path.with_suffix(".yaml").write_text(content)
    assert native_size(checkpoint(path, path.with_suffix(".yaml"))) == 512


def test_a_broken_file_is_512_too(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"nothing")
    assert native_size(checkpoint(path)) == 512
