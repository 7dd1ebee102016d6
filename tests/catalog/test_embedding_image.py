"""Textual inversions inside pictures, in A1111's two ways; written here by loops of their own."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from webui.catalog import embedding_image
from webui.catalog.embedding_image import TEXT_KEY, read_embedding_image
from webui.core.errors import BadModelFile

VECTORS = [[0.25, -1.5, 3.0], [1.0, 2.0, -0.125]]


def stored(**changes: Any) -> dict[str, Any]:
    content = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": {"TORCHTENSOR": VECTORS}},
        "name": "cat-style",
        "step": 300,
        "sd_checkpoint": "ab12cd34",
        "sd_checkpoint_name": "tinyA",
    }
    return content | changes


def keystream(count: int) -> list[int]:
    seed, found = 0, []
    for _ in range(count):
        seed = (1664525 * seed + 1013904223) % 2**32
        found.append((seed % 255) & 0x0F)
    return found


def hidden_in_pixels(path: Path, content: bytes, height: int = 16, border: int = 3) -> Path:
    """Blocks of low nibbles left and right of a picture, with black columns between and a border around."""
    data = zlib.compress(content)
    width = -(-len(data) // (height * 3))
    data += b"\0" * (height * width * 3 - len(data))
    blocks = []
    for shift in (0, 4):
        key = keystream(len(data))
        nibbles = [(byte >> shift & 0x0F) ^ key[n] for n, byte in enumerate(data)]
        block = np.array(nibbles, dtype=np.uint8).reshape(height, width, 3)
        blocks.append(block | np.uint8(0x50))
    picture = np.random.default_rng(0).integers(30, 250, (height, 40, 3)).astype(np.uint8) | np.uint8(1)
    column = np.full((height, 1, 3), 0x10, dtype=np.uint8)
    whole = np.concatenate([blocks[0], column, picture, column, blocks[1]], axis=1)
    whole = np.pad(whole, ((border, border), (border, border), (0, 0)))
    Image.fromarray(whole).save(path, lossless=True)
    return path


def in_text(path: Path, text: str) -> Path:
    info = PngInfo()
    info.add_text(TEXT_KEY, text)
    Image.new("RGB", (8, 8), "white").save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("name", ["x.png", "x.webp"])
def test_an_embedding_in_the_pixels(tmp_path: Path, name: str) -> None:
    found = read_embedding_image(hidden_in_pixels(tmp_path / name, json.dumps(stored()).encode()))
    assert found is not None
    assert np.array_equal(found.tensors["*"], np.array(VECTORS, dtype=np.float32))
    assert (found.name, found.step) == ("cat-style", 300)
    assert (found.sd_checkpoint, found.sd_checkpoint_name) == ("ab12cd34", "tinyA")


def test_an_embedding_in_a_text_chunk(tmp_path: Path) -> None:
    text = base64.b64encode(json.dumps(stored(name=None, step="many")).encode()).decode()
    found = read_embedding_image(in_text(tmp_path / "x.png", text))
    assert found is not None
    assert found.tensors["*"].shape == (2, 3)
    assert (found.name, found.step) == (None, None)


@pytest.mark.parametrize("color", ["black", "white", "red"])
def test_ordinary_pictures_hold_none(tmp_path: Path, color: str) -> None:
    Image.new("RGB", (30, 20), color).save(tmp_path / "x.png")
    assert read_embedding_image(tmp_path / "x.png") is None


def test_a_picture_with_dark_columns_holds_none(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(1, 255, (20, 30, 3)).astype(np.uint8)
    pixels[:, [10, 20]] = 0
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert read_embedding_image(tmp_path / "x.png") is None


@pytest.mark.parametrize(
    "text",
    [
        "no base64!",
        base64.b64encode(b"{").decode(),
        base64.b64encode(b"[1]").decode(),
        base64.b64encode(json.dumps({"string_to_param": {}}).encode()).decode(),
        base64.b64encode(json.dumps(stored(string_to_param={"*": "abc"})).encode()).decode(),
        base64.b64encode(json.dumps(stored(string_to_param={"*": [[1], [2, 3]]})).encode()).decode(),
        base64.b64encode(json.dumps(stored(string_to_param={"*": [[1e999]]})).encode()).decode(),
        base64.b64encode(b"[" * 100_000).decode(),
    ],
)
def test_a_broken_embedding_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadModelFile, match=r"x\.png holds"):
        read_embedding_image(in_text(tmp_path / "x.png", text))


def test_one_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_image, "MAX_JSON", 10_000)
    with pytest.raises(BadModelFile, match="larger than 10000 bytes"):
        read_embedding_image(hidden_in_pixels(tmp_path / "x.png", b" " * 20_000))


def test_what_is_no_picture_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(BadModelFile, match="can't be read as a picture"):
        read_embedding_image(tmp_path / "x.png")
