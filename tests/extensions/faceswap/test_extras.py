"""The step of Extras: a picture, a folder's, what is told, and the mark in the files."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.api.conftest import Running
from tests.extensions.faceswap.test_api import PICTURE, easel
from webui.core.pictures import DIGITAL_SOURCE_TYPE, encode_image, read_infotext
from webui.core.results import COMPOSITE, GENERATED

__all__ = ["easel"]
TARGET = Image.linear_gradient("L").resize((320, 320)).convert("RGB")


def base64_of(image: Image.Image, **texts: str) -> str:
    infotext = texts.pop("infotext", None)
    return base64.b64encode(encode_image(image, "png", infotext, texts)).decode()


def extras(easel: Running, args: Any, image: str | None = None, **more: Any) -> tuple[bytes, str]:
    body = {"image": image or base64_of(TARGET), "extensions": {"ReActor": {"args": args}}, **more}
    answer = easel.client.post("/sdapi/v1/extra-single-image", json=body)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["image"]), answer.json()["html_info"]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)


def test_a_picture_is_swapped_and_marked(easel: Running) -> None:
    data, told = extras(easel, {"enabled": True, "img": PICTURE})
    moved = (pixels(data) != np.asarray(TARGET)).any(-1)
    assert moved[160, 80]
    assert not moved[:60].any()
    assert "ReActor: True" in told
    assert "became source face 0" in told
    assert read_infotext(data)[1][DIGITAL_SOURCE_TYPE] == COMPOSITE


def test_a_generated_picture_keeps_its_own_text(easel: Running) -> None:
    given = base64_of(TARGET, infotext="a cat\nSteps: 1", **{DIGITAL_SOURCE_TYPE: GENERATED})
    plain, _ = extras(easel, {"enabled": False, "img": PICTURE}, given)
    assert read_infotext(plain) == ("a cat\nSteps: 1", {DIGITAL_SOURCE_TYPE: GENERATED})
    swapped, _ = extras(easel, {"enabled": True, "img": PICTURE}, given)
    infotext, items = read_infotext(swapped)
    assert infotext == "a cat\nSteps: 1"
    assert items[DIGITAL_SOURCE_TYPE] == COMPOSITE


def test_it_comes_after_upscaling_and_takes_the_old_list(easel: Running) -> None:
    data, _ = extras(easel, {"enabled": True, "img": PICTURE}, upscaler_1="Lanczos", upscaling_resize=2)
    assert pixels(data).shape == (640, 640, 3)
    assert (pixels(data)[320, 160] != np.asarray(TARGET.resize((640, 640)))[320, 160]).any()
    by_list, _ = extras(easel, [PICTURE, True])
    by_name, _ = extras(easel, {"enabled": True, "img": PICTURE})
    np.testing.assert_array_equal(pixels(by_list), pixels(by_name))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"enabled": True}, "no source picture"),
        ({"enabled": True, "img": PICTURE, "model": "x"}, "no swapper"),
        ({"enabled": True, "img": PICTURE, "source_faces_index": "1,2"}, "2 source faces"),
    ],
)
def test_mistakes_are_one_sentence(easel: Running, args: dict[str, Any], words: str) -> None:
    body = {"image": base64_of(TARGET), "extensions": {"ReActor": {"args": args}}}
    answer = easel.client.post("/sdapi/v1/extra-single-image", json=body)
    assert answer.status_code == 422, answer.text
    assert words in answer.text


def test_what_cant_be_done_leaves_the_picture(easel: Running) -> None:
    data, told = extras(easel, {"enabled": True, "img": PICTURE, "faces_index": "9"})
    np.testing.assert_array_equal(pixels(data), np.asarray(TARGET))
    assert "no target face 9" in told
    assert DIGITAL_SOURCE_TYPE not in read_infotext(data)[1]
