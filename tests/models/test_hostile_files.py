"""Files that try to do harm run nothing, cost little, and are answered with one sentence."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.effort import cpu_seconds
from tests.hostile_files import CANARY, hostile_files, pictures, sidecars
from webui.catalog.checkpoints import CheckpointCatalog
from webui.catalog.embedding_image import read_embedding_image
from webui.catalog.hashes import HashCache
from webui.catalog.model_hints import read_hints
from webui.core.errors import BadModelFile
from webui.models.pickle_file import PickleFile
from webui.models.weights import open_weights

FILES = {title: (suffix, content) for title, suffix, content in hostile_files()}
SIDECARS = dict(sidecars())
PICTURES = dict(pictures())
MEMORY = 100 << 20


def refused(path: Path, read: Callable[[], object]) -> None:
    """One sentence naming the file, nothing run, at little cost."""
    tracemalloc.start()
    try:
        with pytest.raises(BadModelFile) as refusal:
            read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    sentence = str(refusal.value)
    assert not (path.parent / CANARY).exists()
    assert path.name in sentence
    assert "\n" not in sentence
    assert len(sentence) < 300
    assert peak < MEMORY

    def again() -> None:
        with pytest.raises(BadModelFile):
            read()

    assert cpu_seconds(again, enough=1.0, tries=4) < 1.0


@pytest.fixture(autouse=True)
def _canary_would_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("title", FILES)
def test_a_hostile_file_is_refused(title: str, tmp_path: Path) -> None:
    suffix, content = FILES[title]
    path = tmp_path / f"evil{suffix}"
    path.write_bytes(content)
    refused(path, lambda: open_weights(path))


@pytest.mark.parametrize("title", SIDECARS)
def test_a_hostile_sidecar_is_refused(title: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text(SIDECARS[title])
    refused(path, lambda: read_hints("evil", {}, path))


@pytest.mark.parametrize("title", PICTURES)
def test_a_hostile_picture_is_refused(title: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.png"
    path.write_bytes(PICTURES[title])
    refused(path, lambda: read_embedding_image(path))


POINTERS = [
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 4265380512\n",
    b"version https://hawser.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 12345\n",
    b"version https://git-lfs.github.com/spec/v1\next-0-foo sha256:" + b"0" * 64 + b"\noid sha256:" + b"1" * 64,
]


@pytest.mark.parametrize("pointer", POINTERS, ids=range(len(POINTERS)))
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pt", ".bin"])
def test_a_git_lfs_pointer_is_called_one(tmp_path: Path, pointer: bytes, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pointer)
    for read in (open_weights, PickleFile):
        with pytest.raises(BadModelFile, match=rf"model\{suffix} is .*Git LFS pointer"):
            read(path)
    if suffix in (".safetensors", ".ckpt"):
        with HashCache(tmp_path / "hashes.sqlite") as hashes:
            assert "Git LFS pointer" in str(CheckpointCatalog([tmp_path], hashes).find("model").problem)
