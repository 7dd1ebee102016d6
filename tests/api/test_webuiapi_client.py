"""The PyPI client `webuiapi` works with Easel as it does with A1111."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import webuiapi
from PIL import Image

from tests.api.conftest import Running
from tests.describers import small_deepbooru


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


# Every method it has


PICTURE = Image.new("RGB", (64, 64), "teal")
MASK = Image.new("L", (64, 64), 255)
OF_OTHER_EXTENSIONS = {
    "controlnet_version",
    "controlnet_model_list",
    "controlnet_module_list",
    "controlnet_detect",
    "list_prompt_gen_models",
    "prompt_gen",
}
"""What they ask for are routes of extensions, which may be there or not."""

CALLS: dict[str, Callable[[webuiapi.WebUIApi], Any]] = {
    "txt2img": lambda api: api.txt2img(prompt="x", width=64, height=64, save_images=False),
    "img2img": lambda api: api.img2img(images=[PICTURE], mask_image=MASK, prompt="x", width=64, height=64),
    "extra_single_image": lambda api: api.extra_single_image(PICTURE, upscaler_1="Lanczos"),
    "extra_batch_images": lambda api: api.extra_batch_images([PICTURE, PICTURE], upscaler_1="Nearest"),
    "png_info": lambda api: api.png_info(PICTURE),
    "get_endpoint": lambda api: api.get_endpoint("internal/ping", False),
    "custom_get": lambda api: api.custom_get("internal/ping"),
    "custom_post": lambda api: api.custom_post("png-info", {"image": webuiapi.b64_img(PICTURE)}, baseurl=True),
    "post_and_get_api_result": lambda api: api.post_and_get_api_result(
        f"{api.baseurl}/png-info", {"image": webuiapi.b64_img(PICTURE)}, False
    ),
    "set_options": lambda api: api.set_options({"jpeg_quality": 80, "control_net_unit_count": 3}),
    "set_auth": lambda api: api.set_auth("anybody", "anything"),
    "util_set_model": lambda api: api.util_set_model("first"),
    "util_wait_for_ready": lambda api: api.util_wait_for_ready(check_interval=0.1),
}
"""How the methods that need something are called; the others are called with nothing."""


def methods() -> list[str]:
    found = inspect.getmembers(webuiapi.WebUIApi, inspect.isfunction)
    return [name for name, function in found if name[0] != "_" and not inspect.iscoroutinefunction(function)]


@pytest.mark.parametrize("name", sorted(set(methods()) - OF_OTHER_EXTENSIONS - {"interrogate"}))
def test_every_method_works(api: webuiapi.WebUIApi, name: str) -> None:
    CALLS.get(name, lambda api: getattr(api, name)())(api)


def test_interrogate_is_told_what_is_missing_and_then_answers(api: webuiapi.WebUIApi, easel: Running) -> None:
    with pytest.raises(RuntimeError, match=r"422.*BLIP has no weights here yet"):
        api.interrogate(PICTURE)
    file = easel.services.paths.models / "torch_deepdanbooru" / "model.pt"
    small_deepbooru(file)
    try:
        threshold = easel.services.settings.snapshot()["interrogate_deepbooru_score_threshold"]
        easel.services.settings.update({"interrogate_deepbooru_score_threshold": 0.0})
        assert api.interrogate(PICTURE, model="deepdanbooru").info == r"1girl, cat ears, sky, smile \(grin\)"
        easel.services.settings.update({"interrogate_deepbooru_score_threshold": threshold})
    finally:
        file.unlink()


def test_extras_of_one_and_of_several(api: webuiapi.WebUIApi) -> None:
    one = api.extra_single_image(PICTURE, upscaler_1="Lanczos", upscaling_resize=2, upscaler_2="Nearest")
    assert one.image.size == (PICTURE.width * 2 // 8 * 8, PICTURE.height * 2 // 8 * 8)
    to = {"resize_mode": 1, "upscaling_resize_w": 24, "upscaling_resize_h": 40}
    several = api.extra_batch_images([PICTURE, PICTURE.rotate(90)], upscaler_1="Nearest", **to)
    assert [image.size for image in several.images] == [(24, 40)] * 2


def test_options_go_there_and_back(api: webuiapi.WebUIApi) -> None:
    options = api.get_options()
    assert api.set_options({**options, "control_net_unit_count": 3}) is None
    assert api.get_options() == options
