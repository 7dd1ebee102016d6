"""Asking over HTTP whether a picture can come out the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Running


def ask(easel: Running, **body: Any) -> Any:
    return easel.client.post("/easel/v1/reproduce", json=body)


def test_a_picture_just_made_is_judged_the_same(easel: Running) -> None:
    body = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 3}
    made = easel.client.post("/sdapi/v1/txt2img", json=body).json()
    answer = ask(easel, image=made["images"][0]).json()
    assert (answer["verdict"], answer["sentence"]) == ("same", "The same picture is to be expected.")
    assert answer["infotext"].startswith("a cat\nSteps: 1")
    assert {"name", "state", "wanted", "here", "note", "minor"} == answer["facts"][0].keys()
    alone = ask(easel, infotext=answer["infotext"]).json()
    assert alone["verdict"] == "unknown"


@pytest.mark.parametrize("body", [{}, {"infotext": "  "}, {"image": "AAAA"}, {"infotext": 7}])
def test_nothing_to_judge_is_refused(easel: Running, body: dict[str, Any]) -> None:
    assert ask(easel, **body).status_code == 422


def test_a_body_must_be_json(easel: Running) -> None:
    headers = {"Content-Type": "text/plain"}
    assert easel.client.post("/easel/v1/reproduce", content="{}", headers=headers).status_code == 415
