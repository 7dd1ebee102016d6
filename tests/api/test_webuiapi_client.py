"""The PyPI client `webuiapi` works with Easel as it does with A1111."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import webuiapi

from tests.api.conftest import Running


@pytest.fixture
def api(easel: Running) -> webuiapi.WebUIApi:
    parts = urlsplit(easel.url)
    return webuiapi.WebUIApi(host=parts.hostname, port=parts.port, steps=2)


def test_it_generates_a_picture(api: webuiapi.WebUIApi) -> None:
    result = api.txt2img(prompt="a red chair", negative_prompt="blurry", seed=7, width=64, height=64, cfg_scale=7)
    assert result.image.size == (64, 64)
    assert result.info["seed"] == 7
    assert result.info["sampler_name"] == "Euler a"
    assert result.parameters["prompt"] == "a red chair"
    assert result.image.info["parameters"].startswith("a red chair\nNegative prompt: blurry\nSteps: 2")


def test_it_generates_with_hires_fix_and_styles(api: webuiapi.WebUIApi) -> None:
    result = api.txt2img(
        prompt="a chair", styles=["ink"], width=64, height=64, enable_hr=True, hr_scale=2, hr_second_pass_steps=1
    )
    assert result.image.size == (128, 128)
    assert result.info["prompt"] == "ink drawing of a chair"


def test_it_reads_lists_and_settings(api: webuiapi.WebUIApi) -> None:
    assert "Euler a" in [item["name"] for item in api.get_samplers()]
    assert "karras" in [item["name"] for item in api.get_schedulers()]
    assert "first" in [item["model_name"] for item in api.get_sd_models()]
    assert "Latent" in [item["name"] for item in api.get_latent_upscale_modes()]
    assert api.get_progress()["progress"] == 0
    assert api.get_cmd_flags()["listen"] is False
    assert api.get_memory()["ram"]["total"] > 0
    api.refresh_checkpoints()
    api.interrupt()
    api.skip()


def test_it_changes_the_checkpoint(api: webuiapi.WebUIApi) -> None:
    titles = [item["title"] for item in api.get_sd_models()]
    second = next(title for title in titles if title.startswith("second"))
    api.util_set_model(second)
    assert api.util_get_current_model().startswith("second")
    api.util_set_model("first")
    assert api.util_get_current_model().startswith("first")
    api.set_options({"jpeg_quality": 80})
    assert api.get_options()["jpeg_quality"] == 80


def test_it_is_told_what_is_wrong(api: webuiapi.WebUIApi) -> None:
    with pytest.raises(RuntimeError, match="closest is"):
        api.txt2img(prompt="x", sampler_name="Eular a")
