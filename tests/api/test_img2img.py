"""img2img over HTTP: pictures and masks in, pictures out, and a sentence for every mistake."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.conftest import Running, content_of, pictures
from webui.api.schema import ImageToImageBody, request_of
from webui.core.choices import Choices
from webui.core.errors import InvalidRequest
from webui.core.request import GenerationRequest, SoftInpainting


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def mask(box: tuple[int, int, int, int] = (32, 0, 64, 64), size: tuple[int, int] = (64, 64)) -> str:
    image = Image.new("L", size)
    image.paste(255, box)
    return encoded(image)


def bomb(side: int) -> str:
    """A PNG that says it is huge and is a hundred bytes."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


PICTURE = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
SMALL: dict[str, Any] = {
    "prompt": "a cat",
    "steps": 2,
    "width": 64,
    "height": 64,
    "seed": 1,
    "init_images": [encoded(PICTURE)],
}


def post(easel: Running, **fields: Any) -> httpx.Response:
    return easel.client.post("/sdapi/v1/img2img", json={**SMALL, **fields})


def generated(easel: Running, **fields: Any) -> dict[str, Any]:
    return content_of(post(easel, **fields))


def asked(**fields: Any) -> GenerationRequest:
    return request_of(ImageToImageBody(**{**SMALL, **fields}), [], Choices())


def test_a_picture_comes_from_a_picture(easel: Running) -> None:
    content = generated(easel, denoising_strength=0.5)
    info = json.loads(content["info"])
    [picture] = pictures(content)
    assert picture.size == (64, 64)
    assert picture.info["parameters"] == info["infotexts"][0]
    assert "Denoising strength: 0.5" in info["infotexts"][0]
    assert info["denoising_strength"] == 0.5
    assert generated(easel, denoising_strength=0.5)["images"] == content["images"]


@pytest.mark.parametrize("text", [f"data:image/jpeg;base64,{encoded(PICTURE, 'JPEG')}", encoded(PICTURE, "WEBP")])
def test_pictures_come_in_any_format(easel: Running, text: str) -> None:
    assert generated(easel, init_images=[text])["images"]


def test_a_mask_keeps_the_rest(easel: Running) -> None:
    content = generated(easel, mask=mask(), mask_blur=0, inpaint_full_res=False, inpainting_fill=1)
    [picture] = pictures(content)
    assert picture.crop((0, 0, 32, 64)).tobytes() == PICTURE.crop((0, 0, 32, 64)).tobytes()
    assert picture.tobytes() != PICTURE.tobytes()


def test_given_pictures_are_repeated_only_on_request(easel: Running) -> None:
    plain = generated(easel, mask=mask())["parameters"]
    assert [plain[name] for name in ("init_images", "mask", "latent_mask")] == [None] * 3
    repeated = generated(easel, mask=mask(), include_init_images=True)["parameters"]
    assert repeated["init_images"] == SMALL["init_images"]
    assert repeated["mask"] == mask()


def test_masks_come_back_after_their_picture(easel: Running) -> None:
    content = generated(
        easel, mask=mask(), batch_size=2, override_settings={"return_mask": True, "return_mask_composite": True}
    )
    assert [picture.mode for picture in pictures(content)] == ["RGB", "RGB", "RGBA"] * 2
    assert len(json.loads(content["info"])["infotexts"]) == 2


def test_defaults_are_those_of_the_original(easel: Running) -> None:
    request = asked(mask=mask())
    image = request.image
    assert image is not None
    assert image.inpaint is not None
    assert (request.steps, request.sampler, request.hires, request.script) == (2, "Euler", None, "")
    assert (image.denoising_strength, image.resize_mode, image.image_cfg_scale, image.noise_multiplier) == (
        0.75,
        0,
        None,
        None,
    )
    inpaint = image.inpaint
    assert (inpaint.blur_x, inpaint.blur_y, inpaint.round_mask, inpaint.invert) == (4, 4, True, False)
    assert (inpaint.fill, inpaint.only_masked, inpaint.padding, inpaint.soft) == (0, True, 0, None)
    assert asked().image.inpaint is None  # type: ignore[union-attr]
    assert ImageToImageBody().steps == 50  # type: ignore[attr-defined]


@pytest.mark.parity
def test_the_schema_has_the_originals_fields(easel: Running, parity: Any) -> None:
    recorded = json.loads((parity / "openapi.json").read_text())["components"]["schemas"]
    theirs = next(schema for name, schema in recorded.items() if name.endswith("Img2Img"))["properties"]
    ours = ImageToImageBody.model_json_schema()["properties"]
    assert set(theirs) <= set(ours)
    for name, field in theirs.items():
        if "default" in field and name not in ("subseed_strength",):
            assert ours[name].get("default") == field["default"], name


def test_the_blur_of_both_directions_may_be_given_at_once() -> None:
    blurs = [
        (inpaint.blur_x, inpaint.blur_y)
        for fields in ({"mask_blur": 9}, {"mask_blur_x": 2, "mask_blur_y": 7}, {"mask_blur": 3, "mask_blur_x": 8})
        if (inpaint := asked(mask=mask(), **fields).image.inpaint)  # type: ignore[union-attr]
    ]
    assert blurs == [(9, 9), (2, 7), (3, 3)]


def test_soft_inpainting_is_asked_for_as_its_script() -> None:
    scripts: Any = {"Soft Inpainting": {"args": [True, 1, 0.25]}}
    image = asked(mask=mask(), alwayson_scripts=scripts).image
    assert image is not None
    assert image.inpaint is not None
    assert image.inpaint.soft == SoftInpainting(schedule_bias=1, preservation=0.25)
    assert repr(image.inpaint.soft.schedule_bias) == "1"  # as it was given; the infotext writes it so
    assert asked(mask=mask(), alwayson_scripts={"soft inpainting": {"args": [False]}}).image.inpaint.soft is None  # type: ignore[union-attr]
    assert asked(alwayson_scripts=scripts).image.inpaint is None  # type: ignore[union-attr]


def test_loopback_is_asked_for_as_its_script(easel: Running) -> None:
    request = request_of(
        ImageToImageBody(**{**SMALL, "script_name": "LOOPBACK", "script_args": [3, 0.4, "Lazy", "None"]}),
        easel.services.host.params,
        easel.services.choices,
    )
    told = {"loops": 3, "final_denoising_strength": 0.4, "denoising_curve": "Lazy", "append_interrogation": "None"}
    assert (request.script, request.extensions["Loopback"].model_dump()) == ("Loopback", told)
    content = generated(easel, script_name="loopback", script_args=[2, 0.3, "Linear", "None"])
    grid, first, second = pictures(content)
    assert grid.size == (128, 64)
    assert first.tobytes() != second.tobytes()
    assert len(json.loads(content["info"])["infotexts"]) == 3


def test_scripts_of_both_modes_are_served(easel: Running) -> None:
    body = {"prompt": "a cat|red", "steps": 1, "width": 64, "height": 64, "sampler_name": "Euler", "seed": 5}
    matrix = {"script_name": "Prompt Matrix", "script_args": [False, True, "positive", "comma", 0]}
    for route, more in (("txt2img", {}), ("img2img", {"init_images": SMALL["init_images"]})):
        answer = easel.client.post(f"/sdapi/v1/{route}", json={**body, **matrix, **more})
        assert answer.status_code == 200, answer.text
        info = json.loads(answer.json()["info"])
        assert len(answer.json()["images"]) == 3
        assert (info["all_prompts"], info["all_seeds"]) == (["a cat", "a cat, red"], [5, 6])
        assert info["index_of_first_image"] == 1
    lines = {"script_name": "prompts from file or textbox", "script_args": [False, False, "start", "a dog\nx --steps"]}
    answer = easel.client.post("/sdapi/v1/txt2img", json={**body, **lines})
    assert answer.status_code == 422
    assert 'Line 2 of the prompts has "x"' in answer.json()["errors"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"script_name": "prompt matrix", "script_args": [False] * 6}, "must be up to 5 values"),
        ({"script_name": "prompt matrix", "script_args": [False, False, "both"]}, "Select prompt"),
        ({"script_name": "prompt matrix", "script_args": ["perhaps"]}, "Put variable parts at start of prompt"),
        ({"script_name": "ultimate sd upscale"}, "Script 'ultimate sd upscale' not found"),
    ],
)
def test_a_scripts_wrong_arguments_are_told(easel: Running, fields: dict[str, Any], said: str) -> None:
    answer = post(easel, **fields)
    assert answer.status_code == 422
    assert said in answer.json()["errors"]


def test_arguments_without_a_script_are_told(easel: Running) -> None:
    comments = json.loads(generated(easel, script_args=[1])["info"])["comments"]
    assert "script_args has no effect without a script_name." in comments


def test_an_infotext_fills_what_is_left_open(easel: Running) -> None:
    text = "a dog\nSteps: 3, Sampler: DDIM, CFG scale: 4, Seed: 5, Size: 64x64, Denoising strength: 0.2"
    fields = {"init_images": SMALL["init_images"], "infotext": text, "seed": 9}
    answer = easel.client.post("/sdapi/v1/img2img", json=fields)
    assert answer.status_code == 200, answer.text
    written = json.loads(answer.json()["info"])["infotexts"][0]
    assert written.startswith("a dog\nSteps: 3, Sampler: DDIM")
    assert "Seed: 9" in written
    assert "Denoising strength: 0.2" in written


BROKEN = base64.b64encode(b"no picture at all").decode()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"init_images": []}, "init_images is missing"),
        ({"init_images": None}, "init_images is missing"),
        ({"init_images": ["!!!"]}, "init_images is not base64"),
        ({"init_images": [BROKEN]}, "isn't a picture"),
        ({"init_images": [encoded(PICTURE)[:120]]}, "Picture 1 is damaged"),
        ({"init_images": [bomb(60_000)]}, "picture"),
        ({"init_images": [bomb(13_000)]}, "13000 x 13000 pixels"),
        ({"init_images": [encoded(PICTURE)] * 3, "batch_size": 2}, "3 pictures"),
        ({"mask": "!!!"}, "mask is not base64"),
        ({"mask": BROKEN}, "isn't a picture"),
        ({"mask": mask(size=(32, 32), box=(0, 0, 9, 9))}, "The mask has 32 x 32 pixels"),
        ({"resize_mode": 9}, "resize_mode"),
        ({"denoising_strength": 2}, "denoising_strength"),
        ({"inpainting_fill": 7, "mask": mask()}, "inpainting_fill"),
        ({"mask_blur": -1, "mask": mask()}, "mask_blur"),
        ({"script_name": "lopback"}, 'not found; the closest is "loopback"'),
        ({"script_name": "loopback", "script_args": [0]}, "Loops"),
        ({"script_name": "loopback", "script_args": [2, 0.4, "Steep"]}, "curve"),
        ({"script_name": "loopback", "script_args": [2, 0.4, "Lazy", "WD14"]}, "interrogation"),
        ({"mask": mask(), "alwayson_scripts": {"soft inpainting": {"args": [1, 2, 3, 4, 5, 6, 7, 8, 9]}}}, "up to 7"),
        ({"mask": mask(), "alwayson_scripts": {"soft inpainting": {"args": ["yes"]}}}, "true or false"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(easel: Running, fields: dict[str, Any], said: str) -> None:
    answer = post(easel, **fields)
    assert answer.status_code == 422, answer.text
    sentence = answer.json()["errors"]
    assert said in sentence
    assert "\n" not in sentence


def test_txt2img_has_no_scripts_of_img2img(easel: Running) -> None:
    for fields in ({"script_name": "loopback"}, {"alwayson_scripts": {"soft inpainting": {"args": []}}}):
        answer = easel.client.post("/sdapi/v1/txt2img", json={"prompt": "a cat", "steps": 1, **fields})
        assert answer.status_code == 422
        assert "not found" in answer.json()["errors"]


def test_a_request_without_pictures_says_so_before_it_is_queued() -> None:
    with pytest.raises(InvalidRequest, match="init_images is missing"):
        request_of(ImageToImageBody(), [], Choices())
