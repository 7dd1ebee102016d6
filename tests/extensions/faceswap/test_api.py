"""What programs send: ReActor's list of 31 values, names, and its routes; and the PyPI client webuiapi."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import webuiapi
from PIL import Image

from extensions.faceswap.parameters import ORDER, ReActor, Swap
from tests.api.conftest import Running, running
from tests.extensions.faceswap import standins
from tests.extensions.faceswap.conftest import LEFT, RIGHT
from tests.extensions.faceswap.test_generating import BOTH
from tests.tiny import tiny_checkpoint
from webui.core.errors import InvalidRequest
from webui.core.pictures import read_infotext

PICTURE = base64.b64encode(BOTH).decode()
SMALL = {"prompt": "a cat", "steps": 1, "width": 128, "height": 128, "seed": 1, "sampler_name": "Euler"}
DEFAULTS: list[Any] = [
    PICTURE, True, "0", "0", "inswapper_128.onnx", None, 1, True, "None", 1, 1, False, True, 1, 0, 0, False, 0.5, True,
    False, "CPU", False, 0, "None", "", None, False, False, 0.5, 0, "tab_single",
]  # fmt: skip


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("api")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    standins.all_of_them(data / "models", (LEFT, RIGHT))
    with running(data) as easel:
        yield easel


def txt2img(easel: Running, args: Any = None, name: str = "reactor") -> dict[str, Any]:
    scripts = {} if args is None else {name: {"args": args}}
    answer = easel.client.post("/sdapi/v1/txt2img", json={**SMALL, "alwayson_scripts": scripts})
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return {**content, "info": json.loads(content["info"])}


def shown(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"), dtype=int)


def test_the_whole_list_a_short_one_and_names_mean_the_same(easel: Running) -> None:
    assert len(DEFAULTS) == len(ORDER) == 31
    plain = txt2img(easel)
    whole = txt2img(easel, DEFAULTS)
    assert (shown(whole["images"][0]) != shown(plain["images"][0])).any()
    for args in (DEFAULTS[:5], {"img": PICTURE, "enable": True}, {"source_image": PICTURE, "enabled": True}):
        again = txt2img(easel, args)
        np.testing.assert_array_equal(shown(again["images"][0]), shown(whole["images"][0]))
    for name in ("ReActor", "REACTOR"):
        assert txt2img(easel, DEFAULTS, name)["images"] == whole["images"]
    off = txt2img(easel, [PICTURE, False])
    np.testing.assert_array_equal(shown(off["images"][0]), shown(plain["images"][0]))


def test_each_place_of_the_list_is_the_value_it_was() -> None:
    given = dict(zip(ORDER, range(31), strict=True)) | {
        "gender_source": 1, "gender_target": 2, "select_source": 2, "console_log_level": 2, "restore_first": 0,
        "save_original": 1, "model": "", "det_maxnum": 4, "face_model": None,
    }  # fmt: skip
    values = ReActor.from_api(list(given.values()))
    assert (values["gender_source"], values["gender_target"]) == ("Female Only", "Male Only")
    assert (values["select_source"], values["console_log_level"]) == ("Folder", "Default")
    assert (values["restore_first"], values["save_original"]) == (False, True)
    assert (values["model"], values["det_maxnum"]) == ("inswapper_128.onnx", 4)
    assert "face_model" not in values
    assert values["source_faces_index"] == "2"
    for wrong in ([PICTURE, True] * 16, {"gender_source": 3}, {"select_source": -1}, {"select_source": 0.5}):
        with pytest.raises(InvalidRequest):
            ReActor.from_api(wrong)
    assert Swap.checked(**Swap.from_api({"face_index": [0, 2], "side": 256})).target_numbers == (0, 2)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"enabled": True}, "no source picture"),
        ({"enabled": True, "img": "bm8gcGljdHVyZQ"}, "base64"),
        ({"enabled": True, "img": PICTURE, "det_thresh": 3}, "det_thresh"),
        ({"enabled": True, "img": PICTURE, "faces_index": "x"}, "face numbers"),
        ({"enabled": True, "img": PICTURE, "order_target": "loudest"}, "choose one of left-right"),
        ({"enabled": True, "img": PICTURE, "gender_source": "Any"}, "choose one of No, Female Only"),
        ({"enabled": True, "select_source": 2, "source_folder": "\0"}, "folder"),
    ],
)
def test_mistakes_are_one_sentence(easel: Running, args: dict[str, Any], words: str) -> None:
    answer = easel.client.post("/sdapi/v1/txt2img", json={**SMALL, "alwayson_scripts": {"reactor": {"args": args}}})
    assert answer.status_code == 422, answer.text
    assert words in answer.text
    assert "Traceback" not in answer.text


def test_webuiapi_needs_no_change(easel: Running) -> None:
    """alwayson_scripts: the client keeps what it added to its own default, also of other tests."""
    parts = urlsplit(easel.url)
    api = webuiapi.WebUIApi(host=parts.hostname, port=parts.port, steps=1)
    plain = api.txt2img(prompt="a cat", seed=1, width=128, height=128, alwayson_scripts={})
    face = Image.open(io.BytesIO(BOTH))
    result = api.txt2img(
        prompt="a cat", seed=1, width=128, height=128, reactor=webuiapi.ReActor(img=face), alwayson_scripts={}
    )
    assert result.image.size == (256, 256) or any("not upscaled" in told for told in result.info["comments"])
    bare = webuiapi.ReActor(
        img=face, face_restorer_name="None", upscaler_name="None", upscaler_scale=1, device="CPU", mask_face=False
    )
    swapped = api.txt2img(prompt="a cat", seed=1, width=128, height=128, reactor=bare, alwayson_scripts={})
    assert swapped.image.tobytes() != plain.image.tobytes()
    assert 'ReActor: "source: picture' in swapped.image.info["parameters"]
    start = Image.new("RGB", (128, 128), "grey")
    assert api.img2img(
        images=[start], prompt="a cat", width=128, height=128, reactor=bare, alwayson_scripts={}
    ).image.size == (128, 128)


def test_the_picture_route_gives_a_picture_with_its_mark(easel: Running) -> None:
    body = {"source_image": PICTURE, "target_image": PICTURE, "source_faces_index": [1], "face_index": [0]}
    answer = easel.client.post("/reactor/image", json={**body, "scale": 1, "unknown": 1})
    assert answer.status_code == 200, answer.text
    data = base64.b64decode(answer.json()["image"])
    assert read_infotext(data)[1] == {"DigitalSourceType": "compositeWithTrainedAlgorithmicMedia"}
    assert "became source face 1" in answer.json()["comments"][0]
    same = easel.client.post("/reactor/image", json={**body, "face_index": [7]}).json()
    np.testing.assert_array_equal(shown(same["image"]), shown(PICTURE))
    assert "no target face 7" in same["comments"][0]


def test_the_picture_route_keeps_transparency(easel: Running) -> None:
    picture = Image.open(io.BytesIO(BOTH)).convert("RGBA")
    picture.putalpha(Image.radial_gradient("L").resize(picture.size))
    file = io.BytesIO()
    picture.save(file, "PNG")
    target = base64.b64encode(file.getvalue()).decode()
    body = {"source_image": PICTURE, "target_image": target, "upscaler": "Lanczos", "scale": 1}
    made = easel.client.post("/reactor/image", json=body).json()["image"]
    found = Image.open(io.BytesIO(base64.b64decode(made)))
    assert found.mode == "RGBA"
    assert found.getchannel("A").tobytes() == picture.getchannel("A").tobytes()


def test_a_result_is_written_below_the_outputs_alone(easel: Running) -> None:
    body = {"source_image": PICTURE, "target_image": PICTURE, "save_to_file": 1}
    outputs = easel.services.paths.outputs
    assert easel.client.post("/reactor/image", json={**body, "result_file_path": "mine/face.jpg"}).status_code == 200
    assert Image.open(outputs / "mine" / "face.jpg").format == "JPEG"
    assert easel.client.post("/reactor/image", json=body).status_code == 200
    assert len(list((outputs / "api").glob("output_*.png"))) == 1
    for outside in ("../x.png", "/tmp/x.png", "x.txt", "x.png/../../y.png"):
        answer = easel.client.post("/reactor/image", json={**body, "result_file_path": outside})
        assert answer.status_code == 403, outside
    assert not Path("/tmp/x.png").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "target_image is empty"),
        ({"target_image": PICTURE}, "no source picture"),
        ({"target_image": "!", "source_image": PICTURE}, "target_image is not base64"),
        ({"target_image": "aGk=", "source_image": PICTURE}, "isn't a picture"),
        ({"target_image": PICTURE, "source_image": "aGk="}, "isn't a picture"),
        ({"target_image": PICTURE, "source_image": PICTURE, "model": "a.onnx"}, "no swapper"),
        ({"target_image": PICTURE, "source_image": PICTURE, "face_restorer": "Magic"}, "face_restorer_name"),
    ],
)
def test_the_picture_route_tells_mistakes(easel: Running, body: dict[str, Any], words: str) -> None:
    answer = easel.client.post("/reactor/image", json=body)
    assert answer.status_code in (404, 422), answer.text
    assert words in answer.text


def test_lists_and_face_models(easel: Running) -> None:
    get = easel.client.get
    assert get("/reactor/models").json() == {"models": ["inswapper_128.onnx"]}
    assert "Lanczos" in get("/reactor/upscalers").json()["upscalers"]
    assert get("/reactor/facemodels").json() == {"facemodels": []}
    for method, name in enumerate(("mean", "median", "mode")):
        body = {"source_images": [PICTURE, PICTURE], "name": name, "compute_method": method}
        answer = easel.client.post("/reactor/facemodels", json=body)
        assert answer.json() == {"facemodel": f"Face model {name}.safetensors is saved (male, 31)."}
    assert get("/reactor/facemodels").json() == {"facemodels": ["mean", "median", "mode"]}
    for wrong in ({"name": "../x"}, {"name": ""}, {"source_images": []}, {"source_images": ["aGk="]}):
        body = {"source_images": [PICTURE], "name": "x", **wrong}
        assert easel.client.post("/reactor/facemodels", json=body).status_code == 422, wrong
    args = {"enabled": True, "select_source": 1, "face_model": "mean.safetensors"}
    swapped = txt2img(easel, args)
    np.testing.assert_array_equal(shown(swapped["images"][0]), shown(txt2img(easel, DEFAULTS)["images"][0]))
    assert "source: face model mean" in swapped["info"]["infotexts"][0]


def test_script_info_knows_it(easel: Running) -> None:
    listed = easel.client.get("/sdapi/v1/scripts").json()
    assert "reactor" in listed["txt2img"]
    assert "reactor" in listed["img2img"]
