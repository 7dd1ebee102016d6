"""Pictures as people have them, and bombs, at every entrance of the API."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.api.conftest import Running, content_of, pictures
from tests.core.test_outside_pictures import png_of

CASES = Path(__file__).parents[1] / "fixtures/pictures"


def case(name: str) -> str:
    return base64.b64encode((CASES / name).read_bytes()).decode()


def upscaled(easel: Running, image: str) -> httpx.Response:
    body = {"image": image, "upscaler_1": "Nearest", "upscaling_resize": 2}
    return easel.client.post("/sdapi/v1/extra-single-image", json=body)


def from_image(easel: Running, *images: str, **fields: Any) -> httpx.Response:
    body = {"init_images": images, "prompt": "a cat", "steps": 1, "width": 64, "height": 64, **fields}
    return easel.client.post("/sdapi/v1/img2img", json=body)


def test_sixteen_bit_grey_keeps_its_brightness_in_extras(easel: Running) -> None:
    made = Image.open(io.BytesIO(base64.b64decode(content_of(upscaled(easel, case("grey16.png")))["image"])))
    pixels = np.asarray(made.convert("L"), dtype=int)
    assert abs(pixels.mean() - 127) <= 3
    assert pixels[:, 0].max() < 20
    assert pixels[:, -1].min() > 235


def test_a_palette_with_transparency_goes_through_everything(easel: Running) -> None:
    answered = content_of(upscaled(easel, case("palette.png")))["image"]
    picture = Image.open(io.BytesIO(base64.b64decode(answered)))
    picture.load()
    assert "transparency" not in picture.text  # type: ignore[attr-defined]
    assert picture.convert("RGBA").size == picture.size
    content_of(from_image(easel, answered))
    content_of(upscaled(easel, answered))


@pytest.mark.parametrize("name", ["big-profile.png", "big-text.png"])
def test_a_large_compressed_chunk_stops_nothing(easel: Running, name: str) -> None:
    content_of(from_image(easel, case(name)))
    content_of(upscaled(easel, case(name)))
    content_of(easel.client.post("/sdapi/v1/png-info", json={"image": case(name)}))


def test_png_info_shows_texts_without_parameters(easel: Running) -> None:
    def asked(name: str) -> dict[str, Any]:
        return content_of(easel.client.post("/sdapi/v1/png-info", json={"image": case(name)}))

    comfy = asked("comfy.png")
    assert (comfy["info"], sorted(comfy["items"])) == ("", ["prompt", "workflow"])
    assert sorted(asked("novelai-without-uc.png")["items"]) == ["Comment", "Description", "Software", "Source", "Title"]


def test_sizes_as_the_original_takes_them(easel: Running) -> None:
    body = {"prompt": "a cat", "seed": 1, "steps": 1, "width": 77, "height": 64}
    content = content_of(easel.client.post("/sdapi/v1/txt2img", json=body))
    assert pictures(content)[0].size == (72, 64)
    assert "Size: 77x64" in content["info"]
    content = content_of(from_image(easel, case("narrow.png"), width=96, height=64, resize_mode=2))
    assert pictures(content)[0].size == (96, 64)
    body = {"prompt": "a cat", "steps": 1, "width": 40, "height": 8, "subseed_strength": 0.15}
    assert pictures(content_of(easel.client.post("/sdapi/v1/txt2img", json=body)))[0].size == (40, 8)


def test_bombs_are_refused_and_memory_stays_flat(easel: Running) -> None:
    """Six of 34 million pixels each; one of 134; a mask; Extras alike; PNG Info reads no pixels."""
    bomb = base64.b64encode(png_of(16_384, 8_192)).decode()
    part = base64.b64encode(png_of(8_192, 4_096)).decode()
    small = case("palette.png")
    content_of(from_image(easel, small))
    before = psutil.Process().memory_info().rss
    answers = [
        from_image(easel, *[part] * 6, batch_size=6),
        from_image(easel, bomb),
        from_image(easel, small, mask=bomb),
        from_image(easel, small, mask=small, latent_mask=bomb),
        upscaled(easel, bomb),
    ]
    for answer in answers:
        assert answer.status_code == 422, answer.text[:200]
        assert "million" in answer.json()["errors"]
    files = {"imageList": [{"name": "a.png", "data": bomb}, {"name": "b.png", "data": small}], "upscaler_1": "Nearest"}
    batch = content_of(easel.client.post("/sdapi/v1/extra-batch-images", json=files))
    assert len(batch["images"]) == 1
    assert "a.png" in batch["html_info"]
    content_of(easel.client.post("/sdapi/v1/png-info", json={"image": bomb}))
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


def test_a_picture_too_large_for_the_machine_is_told(easel: Running) -> None:
    body = {"prompt": "a cat", "steps": 1, "width": 16_384, "height": 16_384}
    answer = easel.client.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 422
    assert "more than this machine has memory for" in answer.json()["errors"]
