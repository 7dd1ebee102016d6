"""Pictures made larger over HTTP, and the recorded ones."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.api.conftest import Running
from tests.recordings import load_cases
from webui.core.pictures import encode_image, read_infotext

PICTURE = base64.b64encode(encode_image(Image.effect_noise((16, 8), 50), "png", "a cat")).decode()


def single(easel: Running, **body: Any) -> Any:
    return easel.client.post("/sdapi/v1/extra-single-image", json={"image": PICTURE, **body})


@pytest.mark.parity
def test_recorded_pictures_come_out_the_same(easel: Running, parity: Path) -> None:
    cases = [case for case in load_cases(parity) if case.endpoint.endswith("extra-single-image")]
    assert cases
    for case in cases:
        answer = easel.client.post(case.endpoint, json=case.body()).json()
        ours = Image.open(io.BytesIO(base64.b64decode(answer["image"])))
        assert np.array_equal(np.asarray(ours), np.asarray(case.picture(0).convert("RGB"))), case.name
        done = case.picture(0).info["postprocessing"]
        assert read_infotext(base64.b64decode(answer["image"]))[1].get("postprocessing", "") == done
        assert answer["html_info"] == (f"<p>{done}</p>" if done else "")


def test_a_batch_keeps_its_order(easel: Running) -> None:
    other = base64.b64encode(encode_image(Image.new("RGB", (8, 8)), "jpg", None)).decode()
    files = [{"data": PICTURE, "name": "a.png"}, {"data": f"data:image/jpeg;base64,{other}", "name": "b.jpg"}]
    body = {"imageList": files, "upscaler_1": "Nearest", "upscaling_resize": 2}
    answer = easel.client.post("/sdapi/v1/extra-batch-images", json=body).json()
    sizes = [Image.open(io.BytesIO(base64.b64decode(image))).size for image in answer["images"]]
    assert sizes == [(32, 16), (16, 16)]
    assert answer["html_info"] == "<p>Postprocess upscale by: 2.0, Postprocess upscaler: Nearest</p>"


def test_defaults_and_nulls(easel: Running) -> None:
    answer = single(easel, upscaler_1=None, gfpgan_visibility=None, unknown=1).json()
    assert Image.open(io.BytesIO(base64.b64decode(answer["image"]))).size == (16, 8)
    assert single(easel, show_extras_results=False).json()["image"] is None


def test_the_fields_are_the_originals(easel: Running, parity: Path) -> None:
    theirs = json.loads((parity / "openapi.json").read_text())["components"]["schemas"]
    ours = easel.client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("ExtrasSingleImageRequest", "ExtrasBatchImagesRequest"):
        wanted = {field: row.get("default") for field, row in theirs[name]["properties"].items()}
        assert {field: row.get("default") for field, row in ours[name]["properties"].items()} == wanted


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"upscaler_1": "R-ESRGAN 5x+"}, "No upscaler is called"),
        ({"upscaling_resize": 0}, "greater than"),
        ({"upscaling_resize": 60, "upscaler_1": "Lanczos", "resize_mode": 2}, "resize_mode"),
        ({"gfpgan_visibility": 1}, "GFPGAN has no file here"),
        ({"resize_mode": 1, "upscaling_resize_w": 16000, "upscaling_resize_h": 16000, "upscaler_1": "Lanczos"}, "mega"),
        ({"image": ""}, "empty"),
        ({"image": "AAAA"}, "isn't a picture"),
        ({"image": None}, "empty"),
    ],
)
def test_bad_requests_get_a_sentence(easel: Running, body: dict[str, Any], words: str) -> None:
    answer = single(easel, **body)
    assert answer.status_code == 422
    assert words in answer.json()["errors"]
