"""Settings: the table matches what users know, values are checked, and no crash loses the file."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.core.errors import InvalidRequest, Refused, WebuiError
from webui.core.settings import Section, Setting, Settings, SettingsStore, frozen_keys, in_section
from webui.core.settings_table import SETTINGS

TABLE = in_section(
    Section("demo", "Demo", "test"),
    Setting("flag", True, "Flag"),
    Setting("count", 3, "Count", ge=1, le=12, step=1),
    Setting("weight", 0.5, "Weight", ge=0, le=1, step=0.01),
    Setting("mode", "GPU", "Mode", kind="radio", choices=("GPU", "CPU")),
    Setting("names", ("a",), "Names"),
    Setting("model", None, "Model", choices="checkpoints"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parity
def test_table_has_every_option_with_default_label_range_and_infotext(parity: Path) -> None:
    recorded = json.loads((parity / "settings-catalog.json").read_text())
    ours = {setting.key: setting for setting in SETTINGS}
    expected = {
        key: option
        for key, option in recorded.items()
        if not option["is_explanation"] and not key.startswith("prioritized_callbacks_")
    }
    assert set(ours) == set(expected)
    for key, option in expected.items():
        setting, arguments = ours[key], option["component_args"] or {}
        assert plain(setting.default) == option["default"], key
        assert setting.label == option["label"].strip()
        assert [setting.section.id, setting.section.title] == option["section"]
        assert setting.section.category == option["category"]
        assert setting.infotext == option["infotext"]
        assert setting.restrict_api == option["restrict_api"]
        assert (setting.ge, setting.le) == (arguments.get("minimum"), arguments.get("maximum")), key


@pytest.mark.parity
def test_recorded_values_of_the_real_program_are_accepted(parity: Path) -> None:
    recorded = json.loads((parity / "api" / "options.json").read_text())
    known = {key: value for key, value in recorded.items() if key in {setting.key for setting in SETTINGS}}
    assert Settings.defaults(SETTINGS).replace(**known)["samples_format"] == "png"


def test_whole_numbers_and_fractions_are_interchangeable() -> None:
    settings = Settings.defaults(TABLE).replace(count=4.0, weight=1)
    assert (settings["count"], type(settings["count"])) == (4, int)
    assert (settings["weight"], type(settings["weight"])) == (1.0, float)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("flag", 1, "true or false"),
        ("count", 13, "from 1 to 12"),
        ("count", 2.5, "whole number"),
        ("count", True, "whole number"),
        ("weight", float("inf"), "from 0 to 1"),
        ("weight", float("nan"), "from 0 to 1"),
        ("weight", 10**400, "from 0 to 1"),
        ("weight", "0.5", "from 0 to 1"),
        ("mode", "TPU", '"GPU", "CPU"'),
        ("names", "a", "list of texts"),
        ("names", ["a", 1], "list of texts"),
        ("model", 7, "text or null"),
        ("model", "\ud800", "text or null"),
        ("wieght", 0.5, 'closest is "weight"'),
    ],
)
def test_a_bad_value_is_refused_naming_key_value_and_what_is_allowed(key: str, value: object, says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Settings.defaults(TABLE).replace(**{key: value})
    assert key in str(caught.value)
    assert says in str(caught.value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_value_is_either_kept_in_its_type_or_refused(value: object) -> None:
    for setting in TABLE:
        try:
            kept = setting.check(value)
        except InvalidRequest:
            continue
        assert setting.check(kept) == kept
        json.dumps(kept, allow_nan=False).encode()


def test_a_snapshot_never_changes(path: Path) -> None:
    store = SettingsStore(path, TABLE)
    before = store.snapshot()
    store.update({"count": 9})
    assert (before["count"], store.snapshot()["count"]) == (3, 9)
    assert isinstance(before["names"], tuple)


def test_update_saves_and_a_new_store_reads_it_back(path: Path) -> None:
    changed = SettingsStore(path, TABLE).update({"count": 9, "flag": True, "names": ["x", "ü"]})
    assert changed == {"count": (3, 9), "names": (("a",), ("x", "ü"))}
    store = SettingsStore(path, TABLE)
    assert (store.snapshot()["count"], store.snapshot()["names"], store.problems) == (9, ("x", "ü"), [])


def test_update_is_all_or_nothing(path: Path) -> None:
    store = SettingsStore(path, TABLE)
    with pytest.raises(InvalidRequest):
        store.update({"count": 9, "weight": 7})
    assert store.snapshot()["count"] == 3
    assert not path.exists()


def test_unknown_keys_are_kept_and_written_back(path: Path) -> None:
    path.write_text('{"somebody_elses": {"a": [1]}, "count": 5}')
    store = SettingsStore(path, TABLE)
    store.update({"count": 6})
    assert json.loads(path.read_text()) == {"somebody_elses": {"a": [1]}, "count": 6}
    assert "somebody_elses" not in store.snapshot()


@pytest.mark.parametrize("damage", [b"", b'{"count": 9', b"[]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_corrupt_file_is_set_aside_and_the_last_good_copy_used(path: Path, damage: bytes) -> None:
    SettingsStore(path, TABLE).update({"count": 9})
    path.write_bytes(damage)
    store = SettingsStore(path, TABLE)
    assert store.snapshot()["count"] == 9
    assert path.with_name("config.json.broken-1").read_bytes() == damage
    assert len(store.problems) == 1
    assert "last good copy" in store.problems[0]
    assert SettingsStore(path, TABLE).problems == []


def test_a_corrupt_file_without_a_copy_gives_the_defaults(path: Path) -> None:
    path.write_bytes(b"{")
    store = SettingsStore(path, TABLE)
    assert store.snapshot() == Settings.defaults(TABLE)
    assert "defaults" in store.problems[0]
    path.write_bytes(b"}")
    SettingsStore(path, TABLE)
    assert path.with_name("config.json.broken-2").exists()


def test_one_bad_value_costs_only_that_value(path: Path) -> None:
    path.write_text('{"count": 99, "weight": 1}')
    store = SettingsStore(path, TABLE)
    assert (store.snapshot()["count"], store.snapshot()["weight"]) == (3, 1.0)
    assert '"count"' in store.problems[0]


def test_hand_edits_become_the_last_good_copy(path: Path) -> None:
    path.write_text('{"count": 8}')
    SettingsStore(path, TABLE)
    path.write_text("{")
    assert SettingsStore(path, TABLE).snapshot()["count"] == 8


def test_settings_declared_later_take_their_values_from_the_file(path: Path) -> None:
    path.write_text('{"late": 7, "wrong": "x", "count": 5}')
    store = SettingsStore(path, TABLE)
    assert "late" not in store.snapshot()
    store.declare([Setting("late", 1, "Late"), Setting("wrong", 2, "Wrong")])
    assert [store.snapshot()[key] for key in ("late", "wrong", "count")] == [7, 2, 5]
    assert len(store.problems) == 1
    store.update({"late": 8})
    assert json.loads(path.read_text()) == {"late": 8, "count": 5}


def test_a_key_may_have_any_name(path: Path) -> None:
    for key in ("self", "key", "changes"):
        with pytest.raises(InvalidRequest, match="no setting"):
            SettingsStore(path, TABLE).update({key: 1})


def test_a_save_that_fails_changes_nothing(path: Path) -> None:
    store = SettingsStore(path, TABLE)
    path.mkdir()
    heard: list[Any] = []
    store.on_change("count", lambda old, new: heard.append(new))
    with pytest.raises(WebuiError, match="can't be saved"):
        store.update({"count": 9})
    assert (store.snapshot()["count"], heard) == (3, [])


def test_listeners_hear_real_changes_after_the_save_and_may_read_the_store(path: Path) -> None:
    store = SettingsStore(path, TABLE)
    heard: list[tuple[Any, Any, Any]] = []

    def listen(old: Any, new: Any) -> None:
        heard.append((old, new, json.loads(path.read_text())["count"]))
        store.update({"flag": False})  # the lock is free here

    store.on_change("count", listen)
    store.update({"count": 9})
    store.update({"count": 9})
    assert heard == [(3, 9, 9)]
    assert store.snapshot()["flag"] is False


def test_a_failing_listener_neither_undoes_the_change_nor_stops_the_others(path: Path) -> None:
    store = SettingsStore(path, TABLE)
    heard: list[Any] = []
    store.on_change("count", lambda old, new: 1 / 0)
    store.on_change("count", lambda old, new: heard.append(new))
    store.update({"count": 9})
    assert (heard, store.snapshot()["count"]) == ([9], 9)


def test_frozen_settings_refuse_a_change_and_accept_the_same_value(path: Path) -> None:
    store = SettingsStore(path, TABLE, frozen=frozen_keys(TABLE, sections=["Demo"]))
    store.update({"count": 3})
    with pytest.raises(Refused, match="count"):
        store.update({"count": 4})
    assert frozen_keys(TABLE, keys=["count", "nonsense"]) == {"count"}
    assert len(frozen_keys(TABLE, everything=True)) == len(TABLE)


def test_many_threads_lose_no_update(path: Path) -> None:
    store = SettingsStore(path, SETTINGS)
    keys = ["jpeg_quality", "notification_volume", "img2img_editor_height", "uni_pc_order"]

    def work(key: str) -> None:
        for value in range(40, 50):
            store.update({key: value if key != "img2img_editor_height" else value + 100})

    threads = [threading.Thread(target=work, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.snapshot()[key] for key in keys] == [49, 49, 149, 49]
    assert json.loads(path.read_text()) == {key: store.snapshot()[key] for key in keys}
