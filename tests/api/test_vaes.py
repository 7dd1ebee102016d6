"""VAE files over the API: listed, chosen, told in the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.api.conftest import Running

BODY = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 1}
PREFIX = "first_stage_model."


@pytest.fixture
def vae(easel: Running) -> Iterator[Path]:
    """The second checkpoint's VAE as a file."""
    folder = easel.services.paths.vae
    weights = load_file(easel.services.paths.checkpoints[0] / "second.safetensors")
    path = folder / "other.vae.safetensors"
    save_file({key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)}, path)
    assert easel.client.post("/sdapi/v1/refresh-vae").json() is None
    yield path
    easel.client.post("/sdapi/v1/options", json={"sd_vae": "Automatic"})
    path.unlink()
    easel.client.post("/sdapi/v1/refresh-vae")


def test_vaes_are_listed_as_a1111_lists_them(easel: Running, vae: Path) -> None:
    assert easel.client.get("/sdapi/v1/sd-vae").json() == [{"model_name": vae.name, "filename": str(vae)}]


def test_a_chosen_vae_changes_the_picture_and_is_told(easel: Running, vae: Path) -> None:
    plain = easel.client.post("/sdapi/v1/txt2img", json=BODY).json()
    info = json.loads(plain["info"])
    assert (info["sd_vae_name"], info["sd_vae_hash"]) == (None, None)
    override = {**BODY, "override_settings": {"sd_vae": "other.vae.safetensors"}}
    other = easel.client.post("/sdapi/v1/txt2img", json=override).json()
    info = json.loads(other["info"])
    assert other["images"] != plain["images"]
    assert info["sd_vae_name"] == vae.name
    assert f"VAE hash: {info['sd_vae_hash']}, VAE: {vae.name}," in info["infotexts"][0]
    assert easel.client.post("/sdapi/v1/txt2img", json=BODY).json()["images"] == plain["images"]


def test_the_setting_takes_any_spelling_of_a_file_and_nothing_else(easel: Running, vae: Path) -> None:
    assert easel.client.post("/sdapi/v1/options", json={"sd_vae": "other"}).status_code == 200
    assert easel.client.get("/sdapi/v1/options").json()["sd_vae"] == vae.name
    answer = easel.client.post("/sdapi/v1/options", json={"sd_vae": "other.vea"})
    assert answer.status_code == 404
    assert "other.vae.safetensors" in answer.text
    assert easel.client.post("/sdapi/v1/options", json={"sd_vae": "None"}).status_code == 200


def test_a_request_for_a_vae_that_is_not_there_is_refused(easel: Running) -> None:
    answer = easel.client.post("/sdapi/v1/txt2img", json={**BODY, "override_settings": {"sd_vae": "gone"}})
    assert answer.status_code == 404
    assert 'no VAE "gone"' in answer.json()["errors"]


def test_taesd_that_is_not_there_is_one_sentence(easel: Running) -> None:
    override = {**BODY, "override_settings": {"sd_vae_decode_method": "TAESD"}}
    answer = easel.client.post("/sdapi/v1/txt2img", json=override)
    assert answer.status_code == 404
    assert "VAE-taesd" in answer.text
