"""/sdapi/v1/interrogate."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from tests.api.conftest import Running
from tests.describers import small_tagger

FILE = io.BytesIO()
Image.new("RGB", (48, 32), "white").save(FILE, "PNG")
PICTURE = base64.b64encode(FILE.getvalue()).decode()


def test_a_tagger_is_found_by_its_name(easel: Running) -> None:
    small_tagger(easel.services.paths.models / "wd-tagger" / "wd-api")
    answer = easel.client.post("/sdapi/v1/interrogate", json={"image": PICTURE, "model": "wd-api"})
    assert answer.status_code == 200
    assert set(answer.json()) == {"caption"}
    assert "smile" in answer.json()["caption"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"image": PICTURE, "model": "oracle"}, 404, 'is called "oracle"'),
        (
            {"image": PICTURE},
            422,
            "BLIP has no weights here yet. Fetch them on the Extras tab (990.0 MB from huggingface.co",
        ),
        ({"image": "", "model": "clip"}, 422, "empty"),
        ({"image": "AAAA", "model": "deepdanbooru"}, 422, "isn't a picture"),
        ({"image": None}, 422, "image"),
    ],
)
def test_bad_requests_get_a_sentence(easel: Running, body: dict[str, Any], status: int, words: str) -> None:
    answer = easel.client.post("/sdapi/v1/interrogate", json=body)
    assert answer.status_code == status
    assert words in answer.json()["errors"] + str(answer.json()["detail"])
