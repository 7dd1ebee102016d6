"""Files that try to do harm run nothing, cost little, and are answered with one sentence."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.effort import cpu_seconds
from tests.hostile_files import CANARY, hostile_files, pictures, sidecars
from webui.catalog.embedding_image import read_embedding_image
from webui.catalog.model_hints import read_hints
from webui.core.errors import BadModelFile
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
