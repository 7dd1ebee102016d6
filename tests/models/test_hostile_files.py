"""Files that try to do harm run nothing, cost little, and are answered with one sentence."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from tests.effort import cpu_seconds
from tests.hostile_files import CANARY, hostile_files
from webui.core.errors import BadModelFile
from webui.models.weights import open_weights

FILES = {title: (suffix, content) for title, suffix, content in hostile_files()}
MEMORY = 100 << 20


def opened(path: Path) -> str:
    """The sentence it is refused with."""
    with pytest.raises(BadModelFile) as refusal:
        open_weights(path)
    return str(refusal.value)


@pytest.mark.parametrize("title", FILES)
def test_a_hostile_file_is_refused(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    suffix, content = FILES[title]
    path = tmp_path / f"evil{suffix}"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        sentence = opened(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not (tmp_path / CANARY).exists()
    assert path.name in sentence
    assert "\n" not in sentence
    assert len(sentence) < 300
    assert peak < MEMORY
    assert cpu_seconds(lambda: opened(path), enough=1.0, tries=4) < 1.0
