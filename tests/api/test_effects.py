"""What is accepted and changes nothing is told beside the picture."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from tests.api.conftest import Running, content_of
from webui.core.effects import WITHOUT_EFFECT

SMALL: dict[str, Any] = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 1}


def encoded() -> str:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def comments(easel: Running, route: str, **fields: Any) -> list[str]:
    content = content_of(easel.client.post(f"/sdapi/v1/{route}", json={**SMALL, **fields}))
    found: list[str] = json.loads(content["info"]).get("comments", [])
    return found


def test_an_ordinary_request_has_no_comments(easel: Running) -> None:
    assert comments(easel, "txt2img") == []
    assert comments(easel, "img2img", init_images=[encoded()]) == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"restore_faces": True}, "Faces were not restored. CodeFormer has no file here: put codeformer.pth"),
        ({"comments": {"a": "b"}}, "comments has no effect"),
        ({"firstpass_image": "x"}, "firstpass_image has no effect"),
        ({"save_images": True, "do_not_save_grid": True}, "do_not_save_grid has no effect beside save_images"),
        ({"script_args": [1]}, "script_args has no effect without a script_name"),
        ({"alwayson_scripts": {"Seed": {"args": [1]}}}, 'args of the script "Seed" have no effect'),
        ({"refiner_switch_at": 0.5}, "refiner_switch_at has no effect without"),
        ({"hr_scale": 3}, "hr_scale has no effect"),
        ({"hr_scale": 3, "hr_prompt": "x"}, "hr_scale and hr_prompt have no effect"),
        ({"firstphase_width": 64}, "firstphase_width has no effect"),
        ({"denoising_strength": 0.3}, "denoising_strength has no effect"),
        ({"subseed": 5}, "variation seed has no effect"),
        ({"seed_resize_from_w": 64}, "until both width and height"),
        ({"sampler_name": "Euler", "eta": 0.5}, "eta has no effect with Euler"),
        ({"sampler_name": "DPM++ 2M", "s_churn": 5}, "s_churn has no effect with DPM++ 2M"),
        ({"promt": "x"}, 'There is no field "promt"; the closest is "prompt"'),
        ({"foo\n": None, "bar": 1}, 'There is no field "bar'),
        ({"override_settings": {"pin_memory": True}}, 'Setting "pin_memory" has no effect: pictures are read once'),
        ({"override_settings": {"control_net_loglevel": 3}}, 'There is no setting "control_net_loglevel"'),
    ],
)
def test_what_changes_nothing_is_told(easel: Running, fields: dict[str, Any], says: str) -> None:
    told = comments(easel, "txt2img", **fields)
    assert any(says in sentence for sentence in told), told


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mask_blur": 8, "inpainting_fill": 1}, "mask_blur and inpainting_fill have no effect"),
        ({"latent_mask": encoded()}, "latent_mask has no effect"),
        ({"image_cfg_scale": 2}, "Image CFG scale has no effect on first"),
        ({"script_args": [1]}, "script_args has no effect"),
    ],
)
def test_what_changes_nothing_in_img2img_is_told(easel: Running, fields: dict[str, Any], says: str) -> None:
    told = comments(easel, "img2img", init_images=[encoded()], **fields)
    assert any(says in sentence for sentence in told), told


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_hr": True, "hr_scale": 1.5, "hr_second_pass_steps": 1, "denoising_strength": 0.5},
        {"subseed": 5, "subseed_strength": 0.5},
        {"sampler_name": "Euler", "s_churn": 5},
        {"sampler_name": "Euler a", "eta": 0.5},
        {"override_settings": {"CLIP_stop_at_last_layers": 2, "pin_memory": False}},
    ],
)
def test_what_has_its_effect_is_not_told(easel: Running, fields: dict[str, Any]) -> None:
    assert comments(easel, "txt2img", **fields) == []


def test_many_unknown_fields_are_told_in_few_sentences(easel: Running) -> None:
    assert len(comments(easel, "txt2img", **{f"unknown_{number}": 1 for number in range(500)})) <= 21


def test_what_changes_nothing_in_extras_is_told(easel: Running) -> None:
    body = {"image": encoded(), "upscaler_2": "Lanczos", "codeformer_weight": 0.5, "upscale_first": True}
    told = content_of(easel.client.post("/sdapi/v1/extra-single-image", json=body))["html_info"]
    assert "Upscaler 2 has no effect" in told
    assert "CodeFormer weight has no effect" in told
    assert "Upscaling first has no effect" in told


def test_changed_settings_without_effect_are_told_in_a_header(easel: Running) -> None:
    answer = easel.client.post("/sdapi/v1/options", json={"pin_memory": True, "jpeg_quality": 80})
    assert (answer.status_code, answer.json()) == (200, None)
    assert json.loads(answer.headers["x-easel-notes"]) == [
        'Setting "pin_memory" has no effect: pictures are read once and kept as latents.'
    ]
    assert "x-easel-notes" not in easel.client.post("/sdapi/v1/options", json={"pin_memory": True}).headers
    easel.client.post("/sdapi/v1/options", json={"pin_memory": False})
    assert "pin_memory" in WITHOUT_EFFECT
