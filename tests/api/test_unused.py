"""What a client fills in for a group that isn't used, or as "default" or "string", refuses nothing."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.conftest import Running, content_of, pictures

SMALL = {"prompt": "a cat", "seed": 1, "steps": 1, "width": 64, "height": 64}

EXAMPLE: dict[str, Any] = {
    "prompt": "a cat",
    "negative_prompt": "",
    "styles": ["string"],
    "seed": 1,
    "subseed": -1,
    "subseed_strength": 0,
    "seed_resize_from_h": -1,
    "seed_resize_from_w": -1,
    "sampler_name": "string",
    "scheduler": "string",
    "batch_size": 1,
    "n_iter": 1,
    "steps": 1,
    "cfg_scale": 7,
    "width": 64,
    "height": 64,
    "restore_faces": False,
    "tiling": False,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "eta": 0,
    "denoising_strength": 0,
    "s_min_uncond": 0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 0,
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "refiner_checkpoint": "string",
    "refiner_switch_at": 0,
    "disable_extra_networks": False,
    "firstpass_image": "string",
    "comments": {},
    "enable_hr": False,
    "firstphase_width": 0,
    "firstphase_height": 0,
    "hr_scale": 2,
    "hr_upscaler": "string",
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "hr_checkpoint_name": "string",
    "hr_sampler_name": "string",
    "hr_scheduler": "string",
    "hr_prompt": "",
    "hr_negative_prompt": "",
    "force_task_id": "string",
    "sampler_index": "Euler",
    "script_name": "string",
    "script_args": [],
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {},
    "infotext": "string",
}
"""As the original's page of its API offers it."""


def post(easel: Running, mode: str = "txt2img", **fields: Any) -> httpx.Response:
    return easel.client.post(f"/sdapi/v1/{mode}", json={**SMALL, **fields})


def picture() -> str:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_the_example_body_of_the_originals_page(easel: Running) -> None:
    for _ in range(2):
        content = content_of(easel.client.post("/sdapi/v1/txt2img", json=EXAMPLE))
        assert pictures(content)[0].size == (64, 64)
    plain = content_of(post(easel))
    assert pictures(content)[0].tobytes() == pictures(plain)[0].tobytes()


def test_the_example_body_of_img2img(easel: Running) -> None:
    own = {"init_images": [picture()], "mask": "string", "latent_mask": "string", "mask_blur": 0, "resize_mode": 0}
    own |= {"inpainting_fill": 9, "inpaint_full_res_padding": -1, "inpainting_mask_invert": 7, "image_cfg_scale": 0}
    body = {key: value for key, value in EXAMPLE.items() if not key.startswith("hr_")}
    content_of(easel.client.post("/sdapi/v1/img2img", json={**body, **own}))


@pytest.mark.parametrize(
    "fields",
    [
        {"refiner_switch_at": 0},
        {"refiner_checkpoint": "None", "refiner_switch_at": 7},
        {"refiner_checkpoint": "none", "refiner_switch_at": "never"},
        {"hr_scale": 0, "hr_upscaler": "Nope", "hr_resize_x": -1, "hr_second_pass_steps": -1},
        {"enable_hr": False, "firstphase_width": -1, "denoising_strength": -1},
        {"subseed": 2**70, "subseed_strength": 0},
        {"subseed": "", "seed_resize_from_w": -1, "seed_resize_from_h": 10**9},
        {"seed_resize_from_w": -7, "seed_resize_from_h": 0},
        {"sampler_name": "DPM++ 2M", "s_churn": -1, "s_noise": -1},
        {"sampler_name": "default", "scheduler": "Default"},
        {"sampler_name": "", "scheduler": "", "sampler_index": ""},
        {"script_name": "", "script_args": {}},
        {"script_name": None, "script_args": None},
    ],
)
def test_what_is_not_used_is_not_checked(easel: Running, fields: dict[str, Any]) -> None:
    assert pictures(content_of(post(easel, **fields)))[0].size == (64, 64)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"refiner_checkpoint": "second", "refiner_switch_at": 0}, "refiner_switch_at"),
        ({"enable_hr": True, "hr_scale": 0}, "hr_scale"),
        ({"enable_hr": True, "denoising_strength": -1}, "denoising_strength"),
        ({"subseed": 2**70, "subseed_strength": 0.1}, "subseed"),
        ({"seed_resize_from_w": 64, "seed_resize_from_h": 10**9}, "seed_resize_from_h"),
        ({"sampler_name": "Heun", "s_churn": -1}, "s_churn"),
        ({"hr_scale": 0, "width": "wide"}, "width"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
    ],
)
def test_what_is_used_is(easel: Running, fields: dict[str, Any], named: str) -> None:
    answer = post(easel, **fields)
    assert answer.status_code == 422
    assert f"{named} must be" in answer.json()["errors"]


def test_img2img_checks_its_own(easel: Running) -> None:
    answer = post(easel, "img2img", init_images=[picture()], denoising_strength=-1)
    assert "denoising_strength must be" in answer.json()["errors"]
    answer = post(easel, "img2img", init_images=[picture()], mask=picture(), inpainting_fill=9)
    assert "inpainting_fill must be" in answer.json()["errors"]


def test_extras_alike(easel: Running) -> None:
    def sent(**fields: Any) -> httpx.Response:
        body = {"image": picture(), "upscaler_1": "Nearest", **fields}
        return easel.client.post("/sdapi/v1/extra-single-image", json=body)

    content_of(sent(upscaling_resize_w=0, upscaling_resize_h=0, upscaler_2="string", extras_upscaler_2_visibility=7))
    content_of(sent(resize_mode=1, upscaling_resize=0, upscaling_resize_w=32, upscaling_resize_h=32))
    assert "upscaling_resize must be" in sent(upscaling_resize=0).json()["errors"]
    assert "upscaling_resize_w must be" in sent(resize_mode=1, upscaling_resize_w=0).json()["errors"]


@pytest.mark.parametrize("seed", [6687881544318117707, -5, -(2**63), 2**63 - 1])
def test_every_seed_of_64_bits(easel: Running, seed: int) -> None:
    content = content_of(post(easel, seed=seed))
    assert f"Seed: {seed}," in content["info"]
