"""/controlnet/* and alwayson_scripts on the real application, by webuiapi as it is and by hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image

from extensions.controlnet import sizes
from tests.api.conftest import running
from tests.extensions.controlnet.nets import control_shapes, random_weights, write
from tests.tiny import tiny_checkpoint
from tools.random_checkpoint import TINY
from webui.core.errors import InvalidRequest

MODEL = "control_v11p_sd15_canny"
SMALL = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 1, "save_images": False}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    data = tmp_path_factory.mktemp("routes")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    write(data / "models" / "ControlNet" / f"{MODEL}.safetensors", random_weights(control_shapes(TINY)))
    with running(data) as easel:
        yield easel.client


@pytest.fixture(scope="module")
def api(client: httpx.Client) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(baseurl=f"{client.base_url}/sdapi/v1".replace("//sdapi", "/sdapi"))


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def picture(width: int = 80, height: int = 64) -> Image.Image:
    image = Image.new("RGB", (width, height), "black")
    image.paste("white", (width // 4, height // 4, width // 2, height // 2))
    return image


def pixels(text: str) -> bytes:
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB").tobytes()


def pictures_of(answer: httpx.Response) -> list[bytes]:
    """The pixels of all pictures, then of all maps."""
    assert answer.status_code == 200, answer.text
    return [pixels(text) for text in answer.json()["images"]]


def generate(client: httpx.Client, *units: dict[str, Any], key: str = "ControlNet", **more: Any) -> httpx.Response:
    body = {**SMALL, "alwayson_scripts": {key: {"args": list(units)}}, **more}
    return client.post("/sdapi/v1/txt2img", json=body)


def unit(**values: Any) -> dict[str, Any]:
    return {"enabled": True, "module": "canny", "model": MODEL, "image": encoded(picture()), **values}


def test_webuiapi_works_unchanged(api: webuiapi.WebUIApi, tmp_path: Path) -> None:
    assert api.controlnet_version() == 3
    (name,) = api.controlnet_model_list()
    assert name.startswith(f"{MODEL} [")
    assert {"canny", "depth", "openpose", "segmentation", "lineart", "pidinet"} <= set(api.controlnet_module_list())
    found = api.controlnet_detect([picture()], module="canny", processor_res=128)
    assert (len(found.images), found.image.size) == (1, (160, 128))
    units = [
        webuiapi.ControlNetUnit(image=picture(), module="canny", model=name, control_mode=2, processor_res=64),
        webuiapi.ControlNetUnit(image=picture(), module="none", model=name, weight=0.5, enabled=False),
    ]
    made = api.txt2img(prompt="a cat", steps=1, width=64, height=64, controlnet_units=units)
    assert len(made.images) == 2  # the picture and its map
    assert "ControlNet 0" in made.info["infotexts"][0]
    assert "ControlNet is more important" in made.info["infotexts"][0]
    assert "ControlNet 1" not in made.info["infotexts"][0]
    again = api.img2img([picture()], prompt="a cat", steps=1, width=64, height=64, controlnet_units=units[:1])
    assert len(again.images) == 2


def test_old_fields_mean_what_they_meant(client: httpx.Client) -> None:
    now = generate(client, unit(low_vram=False, guidance_end=0.5))
    old = generate(
        client,
        {"enabled": True, "module": "canny", "model": MODEL, "input_image": encoded(picture()), "lowvram": False,
         "guidance": 0.5, "resize_mode": "Scale to Fit (Inner Fit)", "control_mode": 0, "no_such_field": 1},
        key="controlnet",
    )  # fmt: skip
    assert now.status_code == old.status_code == 200, old.text
    assert now.json()["images"] == old.json()["images"]
    data_url = generate(client, unit(image="data:image/png;base64," + encoded(picture()), guidance_end=0.5))
    assert data_url.json()["images"] == now.json()["images"]


def test_a_map_is_the_same_by_itself_and_in_a_unit(client: httpx.Client) -> None:
    body = {"controlnet_module": "canny", "controlnet_input_images": [encoded(picture(64, 64))],
            "controlnet_processor_res": 64}  # fmt: skip
    alone = client.post("/controlnet/detect", json=body).json()
    made = generate(client, unit(image=encoded(picture(64, 64)), processor_res=64)).json()

    assert pixels(alone["images"][0]) == pixels(made["images"][1])


def test_poses_are_found_and_drawn_again(client: httpx.Client) -> None:
    """By MoveNet, whose weights ship."""
    body = {"controlnet_module": "openpose", "controlnet_input_images": [encoded(picture())]}
    found = client.post("/controlnet/detect", json=body).json()
    (pose,) = found["poses"]
    assert {"people", "canvas_width", "canvas_height"} <= set(pose)
    pose["people"] = [{"pose_keypoints_2d": [0.5, 0.5, 1] + [0.6, 0.6, 1] * 17}]
    drawn = client.post("/controlnet/render_openpose_json", json=[pose]).json()
    image = Image.open(io.BytesIO(base64.b64decode(drawn["images"][0])))
    assert image.size == (pose["canvas_width"], pose["canvas_height"])
    assert image.getbbox() is not None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"controlnet_module": "cany", "controlnet_input_images": ["x"]}, 'no preprocessor called "cany"'),
        ({"controlnet_module": "canny"}, "has no picture"),
        ({"controlnet_module": "canny", "controlnet_input_images": ["%%%"]}, "is not base64"),
        ({"controlnet_module": "canny", "controlnet_input_images": [base64.b64encode(b"GIF8 no").decode()]}, "picture"),
        ({"controlnet_module": "inpaint_only", "controlnet_input_images": [encoded(picture())]}, "needs a mask"),
        ({"controlnet_module": "depth_midas", "controlnet_input_images": [encoded(picture())]}, "dpt_hybrid"),
        ({"controlnet_module": "ip-adapter_face_id", "controlnet_input_images": [encoded(picture())]}, "face"),
        (
            {"controlnet_module": "canny", "controlnet_input_images": [encoded(picture(4000, 8))],
             "controlnet_processor_res": 2048},
            "crop it",
        ),
    ],
)  # fmt: skip
def test_what_detect_refuses_is_told_in_a_sentence(client: httpx.Client, body: dict[str, Any], says: str) -> None:
    answer = client.post("/controlnet/detect", json=body)
    assert answer.status_code == 422, answer.text
    assert says in str(answer.json().get("detail", answer.json()))
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "no such net"}, 'no model called "no such net"'),
        ({"model": "None"}, "has no model"),
        ({"image": None}, "unit 1 has no picture"),
        ({"image": base64.b64encode(b"no picture at all").decode()}, "unit 1"),
        ({"module": "nothing"}, 'no preprocessor called "nothing"'),
        ({"guidance_start": 0.9, "guidance_end": 0.1}, "ends before"),
        ({"weight": 3}, "weight"),
        ({"input_mode": "merge"}, "no pictures under Multi-Inputs"),
        ({"input_mode": "batch"}, "no pictures under Batch"),
        ({"input_mode": "batch", "batch_images": "/no/such/folder"}, "no folder /no/such/folder"),
    ],
)
def test_a_unit_that_is_wrong_is_told_in_a_sentence(client: httpx.Client, changes: dict[str, Any], says: str) -> None:
    """It is named by its number; nothing is generated, and the next request is unharmed."""
    answer = generate(client, unit(), unit(**changes))
    assert answer.status_code in (404, 422), answer.text
    assert says in str(answer.json().get("detail", answer.json()))
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(("width", "height"), [(8192, 1), (1, 8192), (8, 8), (3, 700)])
@pytest.mark.parametrize("mode", ["Just Resize", "Crop and Resize", "Resize and Fill"])
def test_narrow_maps_are_brought_to_size_or_refused(width: int, height: int, mode: sizes.ResizeMode) -> None:
    found = np.zeros((height, width, 3), np.uint8)
    assert sizes.fit(found, 64, 64, mode).shape == (64, 64, 3)
    assert sizes.pixel_perfect_resolution(found, 64, 64, mode) >= 1
    if mode == "Crop and Resize" and max(width, height) == 8192:
        with pytest.raises(InvalidRequest, match="crop the picture"):
            sizes.fit(found, 2048, 2048, mode)


@pytest.mark.parametrize("module", ["canny", "lineart_standard", "tile_resample"])
@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (8, 8), "red"),
        Image.new("L", (9, 300), 128),
        Image.new("1", (33, 17)),
        Image.new("P", (64, 40)),
        Image.new("LA", (50, 50), (10, 200)),
        Image.new("RGBA", (50, 70), (255, 0, 0, 0)),
        Image.new("I;16", (40, 40), 40000),
        Image.linear_gradient("L").resize((8192, 700)),
    ],
    ids=lambda image: f"{image.mode} {image.size}",
)
def test_pictures_of_any_kind_and_size_are_taken(client: httpx.Client, image: Image.Image, module: str) -> None:
    body = {"controlnet_module": module, "controlnet_input_images": [encoded(image)], "controlnet_processor_res": 64}
    found = client.post("/controlnet/detect", json=body)
    assert found.status_code == 200, found.text
    made = generate(client, unit(image=encoded(image), module=module, processor_res=64, pixel_perfect=module == "canny",
                                 resize_mode=2))  # fmt: skip
    assert made.status_code == 200, made.text
    assert len(made.json()["images"]) == 2


def test_units_of_several_pictures_and_batches(client: httpx.Client, tmp_path: Path) -> None:
    colours = ("red", "green", "blue")
    files = [encoded(Image.new("RGB", (64, 64), colour)) for colour in colours]

    def made(*units: dict[str, Any], **more: Any) -> list[bytes]:
        return pictures_of(generate(client, *(unit(module="none", **values) for values in units), **more))

    assert len(made({"input_mode": "merge", "images": files, "weight": 0.9})) == 4  # one picture, three maps
    three = made({"input_mode": "batch", "images": files})
    singles = [made({"image": file}) for file in files]
    assert three == [*(images[0] for images in singles), *(images[1] for images in singles)]  # with the same seed each
    for number, colour in enumerate(colours):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{number}.png")
    assert made({"input_mode": "batch", "batch_images": str(tmp_path)}) == three
    both = made({"input_mode": "batch", "images": files}, {"input_mode": "batch", "images": files[:2], "weight": 0.3})
    assert len(both) == 2 + 4  # the shortest ends it
    first, second, _, fed = made({"input_mode": "batch", "images": files[:1], "loopback": True}, n_iter=2)
    assert fed == first  # the first picture is the map of the second
    assert second != first


def test_each_unit_may_act_on_one_picture_of_a_batch(client: httpx.Client) -> None:
    colours = [encoded(Image.new("RGB", (64, 64), colour)) for colour in ("red", "blue")]
    first, second = (unit(module="none", image=colour) for colour in colours)

    def made(*units: dict[str, Any], option: str = "") -> list[bytes]:
        group = {"units": list(units), **({"batch_option": option} if option else {})}
        body = {**SMALL, "batch_size": 2, "alwayson_scripts": {"ControlNet": {"args": group}}}
        return pictures_of(client.post("/sdapi/v1/txt2img", json=body))[:2]

    each = made(first, second, option="Each ControlNet unit for each image in a batch")
    assert each == [made(first)[0], made(second)[1]]
    assert made(first, second) != each
