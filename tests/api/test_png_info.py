"""Reading a picture's text back over HTTP; pictures that are none, or too much, are refused."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.api.conftest import Running
from webui import video
from webui.core.pictures import encode_image

TEXT = "a cat\nNegative prompt: dog\nSteps: 3, Sampler: Heun, CFG scale: 4.0, Seed: 9, Size: 64x128"


def ask(easel: Running, image: Any) -> Any:
    return easel.client.post("/sdapi/v1/png-info", json={"image": image})


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_the_infotext_and_its_fields_come_back(easel: Running, kind: Any, prefix: str) -> None:
    picture = encode_image(Image.new("RGB", (8, 8)), kind, TEXT)
    answer = ask(easel, prefix + encoded(picture)).json()
    assert sorted(answer) == ["info", "items", "parameters"]
    assert answer["info"] == TEXT
    assert answer["parameters"]["Prompt"] == "a cat"
    assert (answer["parameters"]["Size-1"], answer["parameters"]["Steps"]) == ("64", "3")


@pytest.mark.parity
def test_recorded_answers(easel: Running, parity: Path) -> None:
    for case in json.loads((parity / "infotext-parse.json").read_text()):
        picture = encode_image(Image.new("RGB", (8, 8)), "png", case["text"])
        answer = ask(easel, encoded(picture)).json()
        assert answer["info"] == case["png_info_api"]["info"]
        if case["text"] and "Styles array" not in case["png_info_api"]["parameters"]:  # other styles there
            assert answer["parameters"] == case["png_info_api"]["parameters"]


def test_a_picture_without_a_text(easel: Running) -> None:
    answer = ask(easel, encoded(encode_image(Image.new("RGB", (8, 8)), "png", None)))
    assert answer.json() == {"info": "", "items": {}, "parameters": {}}


def test_what_txt2img_made_can_be_read(easel: Running) -> None:
    body = {"prompt": "a (red:1.2) cat", "steps": 1, "width": 64, "height": 64, "seed": 3}
    made = easel.client.post("/sdapi/v1/txt2img", json=body).json()
    answer = ask(easel, made["images"][0]).json()
    assert answer["info"] == json.loads(made["info"])["infotexts"][0]
    assert answer["parameters"]["Seed"] == "3"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG whose header claims that size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


TEXT_BOMB = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 300_000_000, 9))


@pytest.mark.parametrize(
    "image",
    [
        "",
        "   ",
        "data:image/png;base64,",
        "notbase64!!",
        "http://127.0.0.1:9/x.png",
        "file:///etc/passwd",
        "data:text/html;base64,PGI+",
        encoded(b"no picture"),
        encoded(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        encoded(png(60_000, 60_000)),
    ],
)
def test_what_is_no_picture_is_refused(easel: Running, image: str) -> None:
    answer = ask(easel, image)
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith(".")


@pytest.mark.parametrize("body", [{}, {"image": None}, {"image": 7}, {"image": ["a"]}])
def test_a_body_without_a_picture_is_refused(easel: Running, body: dict[str, Any]) -> None:
    assert easel.client.post("/sdapi/v1/png-info", json=body).status_code == 422


def test_a_damaged_picture_is_read_as_far_as_it_goes(easel: Running) -> None:
    file = io.BytesIO(encode_image(Image.new("RGB", (64, 64)), "png", TEXT))
    assert ask(easel, encoded(file.getvalue()[:-20])).json()["info"] == TEXT


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif", "webp"])
@pytest.mark.parametrize("prefix", ["", "data:video/mp4;base64,"])
def test_a_video_tells_how_it_was_made(easel: Running, tmp_path: Path, kind: Any, prefix: str) -> None:
    frames = [np.full((16, 24, 3), level, np.uint8) for level in (20, 90)]
    video.write_video(tmp_path / "film", frames, 10, video.Encoding(kind), TEXT)
    answer = ask(easel, prefix + encoded((tmp_path / "film").read_bytes())).json()
    assert (answer["info"], answer["parameters"]["Prompt"]) == (TEXT, "a cat")


def test_a_broken_video_is_told(easel: Running) -> None:
    answer = ask(easel, encoded(b"\0\0\0\x18ftypisom" + b"\0" * 40))
    assert answer.status_code == 422
    assert "isn't a video" in answer.json()["detail"]


def test_a_text_that_grows_beyond_measure_is_left_out(easel: Running) -> None:
    answer = easel.client.post("/sdapi/v1/png-info", json={"image": encoded(png(8, 8, TEXT_BOMB))})
    assert answer.status_code == 200
    assert (answer.json()["info"], answer.json()["items"]) == ("", {})
