"""Presets in their file, whatever they are called and whatever became of it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from extensions.controlnet.presets import KEPT, MOST, PresetStore
from extensions.controlnet.units import Unit
from webui.core.errors import InvalidRequest, NotFound, NotSaved

UNIT = Unit(module="canny", model="a, b [01234567]", weight=0.3, threshold_a=12, pixel_perfect=True, image=b"picture")


@pytest.fixture
def store(tmp_path: Path) -> PresetStore:
    return PresetStore(tmp_path / "controlnet-presets.json")


@pytest.mark.parametrize("name", ["thin lines", "../../etc/passwd", "CON", "Größe 😀", '"', "x" * 100, " spaced "])
def test_a_preset_comes_back_under_any_name(store: PresetStore, name: str) -> None:
    assert store.names() == []
    saved = store.save(name, UNIT)
    assert saved == name.strip()
    assert store.names() == [saved]
    assert store.load(saved) == {key: getattr(UNIT, key) for key in KEPT}
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]
    assert "picture" not in store.path.read_text()
    store.delete(saved)
    assert store.names() == []


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb", "a\0b", "\u202etxt"])
def test_a_name_that_can_not_be_shown_is_refused(store: PresetStore, name: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 100 printable"):
        store.save(name, UNIT)
    assert not store.path.exists()


@pytest.mark.parametrize("content", ["{", "[]", "\xff\xfe", "null"])
def test_a_broken_file_is_told_and_left_as_it_is(store: PresetStore, content: str) -> None:
    store.path.write_text(content, "latin-1")
    for ask in (store.names, lambda: store.load("x"), lambda: store.save("x", UNIT), lambda: store.delete("x")):
        with pytest.raises(NotSaved, match="controlnet-presets.json"):
            ask()
    assert store.path.read_text("latin-1") == content


def test_what_a_hand_wrote_is_checked(store: PresetStore) -> None:
    store.path.write_text(json.dumps({"bad": {"weight": 99}, "odd": 5, "more": {"weight": 1.5, "file": "/etc/passwd"}}))
    with pytest.raises(InvalidRequest, match="(?i)weight"):
        store.load("bad")
    with pytest.raises(InvalidRequest, match="damaged"):
        store.load("odd")
    assert store.load("more")["weight"] == 1.5
    for ask in (store.load, store.delete):
        with pytest.raises(NotFound, match="no ControlNet preset"):
            ask("gone")


def test_many_may_save_at_once_but_not_without_end(store: PresetStore) -> None:
    threads = [threading.Thread(target=store.save, args=(str(number), UNIT)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.names()) == 20
    store.path.write_text(json.dumps({str(number): {} for number in range(MOST)}))
    store.save("7", UNIT)
    with pytest.raises(InvalidRequest, match=str(MOST)):
        store.save("new", UNIT)
