"""LoRAs, embeddings and hypernetworks over the API, in A1111's shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.api.conftest import Running

WIDTH = 32


@pytest.fixture(scope="module", autouse=True)
def files(easel: Running) -> Iterator[None]:
    """Networks that come after the start, and go again."""
    paths = easel.services.paths
    made = [
        paths.lora / "apilora.safetensors",
        paths.lora / "damaged.safetensors",
        paths.embeddings / "apiword.safetensors",
        paths.embeddings / "apiwide.pt",
        paths.hypernetworks / "apihyper.pt",
    ]
    metadata = {"ss_output_name": "api-alias", "ss_tag_frequency": '{"a": {"cat": 1}}', "ss_v2": "False"}
    save_file({"lora_unet_conv_in.diff_b": torch.ones(WIDTH)}, made[0], metadata)
    made[1].write_bytes(b"nothing")
    save_file({"emb_params": torch.ones(2, WIDTH)}, made[2])
    told = {"step": 3, "sd_checkpoint": "abcd", "sd_checkpoint_name": "first"}
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(1, 768)}, **told}, made[3])
    made[4].write_bytes(b"looked at when it is used")
    try:
        yield
    finally:
        for path in made:
            path.unlink()
        easel.services.networks.refresh()


def get(easel: Running, route: str) -> Any:
    answer = easel.client.get(f"/sdapi/v1/{route}")
    assert answer.status_code == 200
    return answer.json()


def test_loras_are_listed_after_a_refresh(easel: Running) -> None:
    assert easel.client.post("/sdapi/v1/refresh-loras").json() is None
    listed = {item["name"]: item for item in get(easel, "loras")}
    assert set(listed["apilora"]) == {"name", "alias", "path", "metadata"}
    assert listed["apilora"]["alias"] == "api-alias"
    assert listed["apilora"]["metadata"]["ss_tag_frequency"] == {"a": {"cat": 1}}
    assert listed["damaged"]["metadata"] == {}
    assert Path(listed["apilora"]["path"]).is_file()


def test_embeddings_that_fit_the_model_and_others(easel: Running) -> None:
    body = {"prompt": "apiword", "steps": 1, "width": 64, "height": 64}
    info = json.loads(easel.client.post("/sdapi/v1/txt2img", json=body).json()["info"])
    assert easel.client.post("/sdapi/v1/refresh-embeddings").json() is None
    listed = get(easel, "embeddings")
    facts = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None, "shape": WIDTH, "vectors": 2}
    assert listed["loaded"]["apiword"] == facts
    told = {"step": 3, "sd_checkpoint": "abcd", "sd_checkpoint_name": "first", "shape": 768, "vectors": 1}
    assert listed["skipped"]["apiwide"] == told
    assert "TI hashes" in info["infotexts"][0]


def test_hypernetworks_are_listed(easel: Running) -> None:
    easel.services.networks.hypernetworks.refresh()
    (item,) = get(easel, "hypernetworks")
    assert item == {"name": "apihyper", "path": str(easel.services.paths.hypernetworks / "apihyper.pt")}


@pytest.mark.parity
@pytest.mark.parametrize(("route", "key"), [("loras", None), ("embeddings", "loaded"), ("hypernetworks", None)])
def test_keys_are_those_of_the_original(easel: Running, parity: Path, route: str, key: str | None) -> None:
    easel.services.networks.refresh()
    recorded = json.loads((parity / "api" / f"{route}.json").read_text())
    ours, theirs = get(easel, route), recorded
    if key:
        assert set(ours) == set(theirs)
        ours, theirs = list(ours[key].values()), list(theirs[key].values())
    assert set(ours[0]) == set(theirs[0])
