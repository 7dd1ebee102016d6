"""Reading and writing what lies beside a model file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from webui.catalog.files import FileCatalog, ModelFile
from webui.catalog.sidecars import preview_path, read_sidecar, write_sidecar
from webui.core.errors import InvalidRequest


def listed(folder: Path) -> ModelFile:
    (folder / "ink.safetensors").touch()
    return FileCatalog([folder], [".safetensors"]).find("ink")


def test_a1111s_user_metadata_is_read(tmp_path: Path) -> None:
    content = {
        "description": "Pen drawings",
        "sd version": "SD1",
        "activation text": "inkpen",
        "preferred weight": 0.7,
        "negative text": "photo",
        "notes": "mine",
        "vae": "kl.vae.pt",
    }
    (tmp_path / "ink.json").write_text(json.dumps(content))
    found = read_sidecar(listed(tmp_path))
    assert (found.description, found.sd_version, found.activation_text) == ("Pen drawings", "SD1", "inkpen")
    assert (found.preferred_weight, found.negative_text, found.notes, found.vae) == (0.7, "photo", "mine", "kl.vae.pt")


def test_civitai_and_a_text_file_serve_where_the_user_said_nothing(tmp_path: Path) -> None:
    (tmp_path / "ink.civitai.info").write_text(json.dumps({"trainedWords": ["ink", "pen", 3], "description": "<p>x"}))
    found = read_sidecar(listed(tmp_path))
    assert (found.activation_text, found.description) == ("ink, pen", "<p>x")
    (tmp_path / "ink.txt").write_text("From the text file\n")
    (tmp_path / "ink.json").write_text(json.dumps({"activation text": ""}))
    found = read_sidecar(listed(tmp_path))
    assert (found.activation_text, found.description) == ("", "From the text file")


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"preferred weight": "x", "notes": 3}']
)
def test_broken_sidecars_count_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ink.json").write_bytes(content)
    (tmp_path / "ink.civitai.info").write_bytes(content)
    found = read_sidecar(listed(tmp_path))
    assert (found.notes, found.preferred_weight, found.activation_text) == ("", 0.0, "")


def test_writing_keeps_unknown_keys(tmp_path: Path) -> None:
    (tmp_path / "ink.json").write_text('{"tool": {"id": 5}, "notes": "old"}')
    file = listed(tmp_path)
    write_sidecar(file, {"notes": "naïve <b>", "preferred weight": 0.5})
    text = (tmp_path / "ink.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"tool": {"id": 5}, "notes": "naïve <b>", "preferred weight": 0.5}
    assert text.startswith('{\n    "tool"')


def test_a_damaged_sidecar_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ink.json").write_text("{broken")
    with pytest.raises(InvalidRequest, match="damaged and was not overwritten"):
        write_sidecar(listed(tmp_path), {"notes": "new"})
    assert (tmp_path / "ink.json").read_text() == "{broken"


def test_previews_are_found_in_a1111s_order(tmp_path: Path) -> None:
    assert preview_path(listed(tmp_path)) is None
    (tmp_path / "ink.preview.jpg").touch()
    assert preview_path(listed(tmp_path)) == tmp_path / "ink.preview.jpg"
    (tmp_path / "ink.png").touch()
    assert preview_path(listed(tmp_path)) == tmp_path / "ink.png"
    (tmp_path / "ink.svg").touch()
    assert preview_path(listed(tmp_path)) == tmp_path / "ink.png"
    (tmp_path / "ink.png").unlink()
    (tmp_path / "ink.preview.jpg").unlink()
    (tmp_path / "ink.avif").touch()
    assert preview_path(listed(tmp_path)) is None
    assert preview_path(listed(tmp_path), "avif") == tmp_path / "ink.avif"
