"""Vectors of textual inversions, out of every kind of file."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from webui.catalog.embedding_image import TEXT_KEY
from webui.core.errors import BadModelFile
from webui.models.networks.embeddings import read_embedding

VECTORS = torch.tensor([[0.25, -1.5, 3.0], [1.0, 2.0, -0.125]])


@pytest.mark.parametrize("name", ["a.pt", "kohya.safetensors", "half.safetensors", "diffusers.bin", "x.png", "old.pt"])
def test_one_tensor_suits_the_only_text_encoder(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.pt":
        torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": VECTORS}, "extra": torch.ones(5)}, path)
    elif name == "old.pt":
        table = torch.nn.ParameterDict({"*": torch.nn.Parameter(VECTORS)})
        torch.save({"string_to_token": {"*": 265}, "string_to_param": table}, path)
    elif name == "diffusers.bin":
        torch.save({"<cat>": VECTORS}, path)
    elif name == "x.png":
        content = {"string_to_param": {"*": {"TORCHTENSOR": VECTORS.tolist()}}}
        info = PngInfo()
        info.add_text(TEXT_KEY, base64.b64encode(json.dumps(content).encode()).decode())
        Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    else:
        save_file({"emb_params": VECTORS.half() if name == "half.safetensors" else VECTORS}, path)
    found = read_embedding(path, "cat", "abc")
    assert (found.name, found.digest, found.count, found.widths) == ("cat", "abc", 2, (3,))
    for encoder in ("clip_l", "clip_h"):
        vectors = found.of(encoder)
        assert vectors is not None
        assert vectors.dtype == torch.float32
        assert torch.equal(vectors, VECTORS)


def test_a_single_vector_is_one_row(tmp_path: Path) -> None:
    torch.save({"<cat>": VECTORS[0]}, tmp_path / "x.bin")
    assert read_embedding(tmp_path / "x.bin", "x").count == 1


def test_sdxl_has_vectors_for_each_text_encoder(tmp_path: Path) -> None:
    save_file({"clip_g": torch.ones(2, 5), "clip_l": VECTORS}, tmp_path / "x.safetensors")
    found = read_embedding(tmp_path / "x.safetensors", "x")
    assert found.widths == (3, 5)
    assert torch.equal(found.of("clip_l"), VECTORS)  # type: ignore[arg-type]
    assert torch.equal(found.of("clip_g"), torch.ones(2, 5))  # type: ignore[arg-type]
    assert found.of("t5") is None


def test_what_is_no_embedding_is_said(tmp_path: Path) -> None:
    save_file({"a": VECTORS, "b": VECTORS.clone()}, tmp_path / "two.safetensors")
    save_file({"clip_l": VECTORS, "clip_g": torch.ones(3, 5)}, tmp_path / "uneven.safetensors")
    save_file({"emb_params": torch.full((1, 3), torch.nan)}, tmp_path / "nan.safetensors")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    for name in ("two.safetensors", "uneven.safetensors", "nan.safetensors", "photo.png", "junk.pt"):
        with pytest.raises(BadModelFile, match=name):
            read_embedding(tmp_path / name, "x")
