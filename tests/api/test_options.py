"""Settings over the API: checked, saved, restricted, and a checkpoint that is loaded before the answer."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import Running


def options(easel: Running) -> dict[str, Any]:
    found: dict[str, Any] = easel.client.get("/sdapi/v1/options").json()
    return found


def change(easel: Running, **changes: Any) -> httpx.Response:
    return easel.client.post("/sdapi/v1/options", json=changes)


@pytest.mark.parity
def test_every_option_of_a1111_is_there_in_its_type(easel: Running, parity: Path) -> None:
    recorded = json.loads((parity / "api" / "options.json").read_text())
    explanations = {key for key, value in recorded.items() if key.endswith("_explanation") or key == "settings_in_ui"}
    ours = options(easel)
    assert set(recorded) - explanations <= set(ours)
    for key in set(recorded) - explanations:
        if ours[key] is not None and recorded[key] is not None:
            kinds = {type(ours[key]), type(recorded[key])}
            assert len(kinds) == 1 or kinds == {int, float}, key


def test_a_change_is_saved_and_read_back(easel: Running, data: Path) -> None:
    assert change(easel, jpeg_quality=91, hide_samplers=["LMS"]).json() is None
    assert (options(easel)["jpeg_quality"], options(easel)["hide_samplers"]) == (91, ["LMS"])
    assert json.loads((data / "config.json").read_text())["jpeg_quality"] == 91
    change(easel, jpeg_quality=80, hide_samplers=[])


def test_sending_back_everything_changes_nothing(easel: Running) -> None:
    before = options(easel)
    assert change(easel, **before).status_code == 200
    assert options(easel) == before


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"jpeg_quality": 101}, 422, "from 1 to 100"),
        ({"jpeg_quality": "high"}, 422, "whole number"),
        ({"jpeg_quality": None}, 422, "whole number"),
        ({"randn_source": "TPU"}, 422, '"GPU", "CPU", "NV"'),
        ({"samples_format": "exe"}, 422, '"png"'),
        ({"sd_model_checkpoint": "frist.safetensors"}, 404, 'closest is "first'),
        ({"sd_model_checkpoint": ""}, 422, "checkpoint"),
        ({"outdir_txt2img_samples": "/root/.ssh"}, 403, "outdir_txt2img_samples"),
        ({"outdir_samples": "extensions/new"}, 403, "outdir_samples"),
        ({"outdir_save": ".."}, 403, "outdir_save"),
        ({"temp_dir": "/"}, 403, "temp_dir"),
        ({"font": "/etc/passwd"}, 403, "font"),
        ({"api_forbid_local_requests": False}, 403, "api_forbid_local_requests"),
        ({"api_useragent": "x"}, 403, "api_useragent"),
        ({"disabled_extensions": ["guard"]}, 403, "disabled_extensions"),
    ],
)
def test_a_bad_change_is_refused_and_changes_nothing(
    easel: Running, changes: dict[str, Any], status: int, says: str
) -> None:
    before = options(easel)
    answer = change(easel, **{"notification_volume": 7, **changes})
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert set(answer.json()) == {"error", "detail", "body", "errors"}
    assert options(easel) == before


def test_restricted_settings_may_be_named_unchanged(easel: Running) -> None:
    same = {key: value for key, value in options(easel).items() if key.startswith(("outdir_", "api_"))}
    assert len(same) > 9
    assert change(easel, **same).status_code == 200


def test_another_checkpoint_is_loaded_and_named_by_any_of_its_names(easel: Running) -> None:
    assert change(easel, sd_model_checkpoint="second").status_code == 200
    assert options(easel)["sd_model_checkpoint"].startswith("second.safetensors")
    assert change(easel, sd_model_checkpoint="first.safetensors").status_code == 200
    assert options(easel)["sd_model_checkpoint"].startswith("first.safetensors")


def test_a_checkpoint_that_cannot_be_loaded_leaves_the_one_before(easel: Running) -> None:
    before = options(easel)["sd_model_checkpoint"]
    answer = change(easel, sd_model_checkpoint="broken")
    assert answer.status_code == 422
    assert "broken.safetensors" in answer.json()["detail"]
    assert options(easel)["sd_model_checkpoint"] == before


@pytest.mark.parity
def test_a1111s_own_options_are_taken_and_what_easel_has_not_is_named(
    easel: Running, parity: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = options(easel)
    recorded = json.loads((parity / "api" / "options.json").read_text())
    checkpoint = {"sd_model_checkpoint": before["sd_model_checkpoint"]}  # theirs isn't here
    with caplog.at_level(logging.WARNING, logger="webui.api.options"):
        answer = change(easel, **{**recorded, **checkpoint})
    assert (answer.status_code, answer.json()) == (200, None)
    notes = json.loads(answer.headers["x-easel-notes"])
    unknown = set(recorded) - set(before)
    assert len(unknown) == 5
    for key in unknown:
        assert any(f'There is no setting "{key}"' in note for note in notes)
        assert key in caplog.text
    assert change(easel, **before).status_code == 200
    assert options(easel) == before


@pytest.mark.parametrize(
    "key", ["jpeg_qualty", "self", "", "control_net_loglevel", "ü\r\nSet-Cookie: a=b", "x" * 100_000]
)
def test_an_unknown_setting_is_passed_over_and_named(easel: Running, key: str) -> None:
    before = options(easel)
    answer = change(easel, **{key: 1, "notification_volume": before["notification_volume"]})
    assert answer.status_code == 200
    [note] = json.loads(answer.headers["x-easel-notes"])
    assert note.startswith(f"There is no setting {json.dumps(key)}"[:60])
    assert "set-cookie" not in answer.headers
    assert options(easel) == before


def test_very_many_unknown_settings_fit_into_the_header(easel: Running) -> None:
    answer = change(easel, **{f"{number}_{'ü' * 200}": 1 for number in range(5000)})
    assert answer.status_code == 200
    assert len(answer.headers["x-easel-notes"]) <= 4000


@pytest.mark.parametrize("body", ["[]", "3", '"x"', "null"])
def test_a_body_that_is_no_object_is_refused(easel: Running, body: str) -> None:
    answer = easel.client.post("/sdapi/v1/options", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
