"""The report, on recordings made here: a server asked again, one picture changed, one route that isn't there."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.parity_report import main
from tests.recordings import difference, folders, load_cases, same_infotexts


@pytest.fixture
def recorded(server: Any, tmp_path: Path) -> Path:
    """Two requests and their answers, one more that no server knows, laid out as recordings are."""
    (tmp_path / "images").mkdir()
    cases = {}
    for name, seed in (("same", 1), ("changed", 2)):
        answer = server.txt2img(seed=seed).json()
        (tmp_path / "images" / f"{name}.png").write_bytes(base64.b64decode(answer["images"][0]))
        payload = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": seed}
        texts = json.loads(answer["info"])["infotexts"]
        cases[name] = {
            "endpoint": "/sdapi/v1/txt2img",
            "payload": payload,
            "files": [f"{name}.png"],
            "infotexts": texts,
        }
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "images" / "changed.png")
    cases["unknown"] = {"endpoint": "/sdapi/v1/unheard-of", "payload": {}, "files": ["same.png"]}
    (tmp_path / "manifest.json").write_text(json.dumps(cases))
    return tmp_path


def test_each_case_is_told_and_the_page_shows_the_pictures(
    server: Any, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = recorded / "report.html"
    common = ["--dir", str(recorded), "--server", server.url, "--out", str(page)]
    assert main(common) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "ok   same: max 0, mean 0.0000, infotext equal"
    assert told[1].startswith("FAIL changed: max 2")
    assert told[2].startswith("FAIL unknown: can't run, HTTP 404")
    assert told[3].startswith("1 of 3 cases equal (33.3%)")
    shown = page.read_text()
    assert shown.count("<img") == 6
    assert shown.index("<td>changed") < shown.index("<td>same")
    assert main([*common, "--share", "0.3"]) == 0
    assert main([*common, "--only", "same"]) == 0
    assert main([*common, "--without", "changed", "unknown"]) == 0
    assert main([*common, "--only", "nothing"]) == 2


def test_a_folder_inside_is_read_too(recorded: Path) -> None:
    (recorded / "more" / "inputs").mkdir(parents=True)
    (recorded / "more" / "inputs" / "x.png").write_bytes(b"content")
    case = {
        "endpoint": "/e",
        "payload": {"init_images": ["@inputs/x.png"], "deep": {"mask": "@inputs/x.png"}},
        "files": [],
    }
    (recorded / "more" / "manifest.json").write_text(json.dumps({"more": case}))
    assert folders(recorded) == (recorded, recorded / "more")
    body = load_cases(recorded / "more")[0].body()
    assert base64.b64decode(body["init_images"][0]) == base64.b64decode(body["deep"]["mask"]) == b"content"
    shutil.rmtree(recorded / "more")
    assert folders(recorded) == (recorded,)


def test_differences_are_measured_in_levels() -> None:
    grey, lighter = Image.new("RGB", (10, 10), (100, 100, 100)), Image.new("RGB", (10, 10), (100, 100, 103))
    apart = difference(grey, lighter)
    assert apart is not None
    assert (apart.maximum, round(apart.mean, 6), round(apart.within, 6)) == (3, 1.0, round(2 / 3, 6))
    assert not apart.passes
    assert difference(grey, grey.resize((5, 5))) is None
    assert same_infotexts(["a\nSteps: 1, Version: v1"], ["a\nSteps: 1, Version: v2"])
    assert not same_infotexts(["a"], ["b"])
