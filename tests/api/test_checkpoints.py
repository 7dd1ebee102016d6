"""Checkpoints over the API: listed, refreshed, unloaded and loaded again."""

from __future__ import annotations

from tests.api.conftest import Running


def listed(easel: Running) -> dict[str, dict[str, str]]:
    return {item["model_name"]: item for item in easel.client.get("/sdapi/v1/sd-models").json()}


def test_a_new_checkpoint_is_listed_after_a_refresh(easel: Running) -> None:
    assert {"first", "second", "broken"} <= set(listed(easel))
    assert listed(easel)["first"]["config"].endswith("first.yaml")
    late = easel.services.paths.checkpoints[0] / "late.safetensors"
    late.write_bytes(b"not a model either")
    try:
        assert easel.client.post("/sdapi/v1/refresh-checkpoints").json() is None
        assert "late" in listed(easel)
    finally:
        late.unlink()
        easel.client.post("/sdapi/v1/refresh-checkpoints")
    assert "late" not in listed(easel)


def test_an_unloaded_checkpoint_is_loaded_by_the_next_picture_or_on_wish(easel: Running) -> None:
    body = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 1}
    before = easel.client.post("/sdapi/v1/txt2img", json=body).json()["images"]
    assert easel.client.post("/sdapi/v1/unload-checkpoint").json() == {}
    assert easel.client.post("/sdapi/v1/txt2img", json=body).json()["images"] == before
    for _ in range(2):
        assert easel.client.post("/sdapi/v1/unload-checkpoint").json() == {}
    assert easel.client.post("/sdapi/v1/reload-checkpoint").json() == {}
    assert easel.client.post("/sdapi/v1/txt2img", json=body).json()["images"] == before
