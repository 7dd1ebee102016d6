"""Maps and pictures are those of sd-webui-controlnet on the original program."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.api.server import serving_extensions
from tests.extensions.recorded import made, one_thread, recorded_folder, recorded_services, unpack_models
from tests.recordings import Case, difference, lay_out, load_cases, without_version
from webui.core.errors import InvalidRequest, NotFound
from webui.core.pictures import encode_image
from webui.pipeline.engine import Engine
from webui.services.services import Services

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# Of everything something: networks, adapters, modes, ranges, sizes, masks, passes, preprocessors, several units.
CASES = (
    "cn-ref-only", "cn-ref-only-scene-0.6", "cn-ref-adain", "cn-ref-adain-attn", "cn-ref-control", "cn-ref-prompt-cfg1",
    "cn-ref-and-control", "cn-ref-batch", "cn-ref-2m-half", "cn-i2i-ref", "cn-inpaint-only-hires",
    "cn-none", "cn-canny-low", "cn-weight-1.6", "cn-guidance-0.2-0.6-heun", "cn-mode-control-1.3",
    "cn-resize-fill-canny", "cn-resize-crop-edges-up", "cn-two-mixed", "cn-batch-2-control", "cn-hires-canny",
    "cn-hires-two",
    "cn-advanced-weights", "cn-region-mask", "cn-and-control", "cn-shuffle", "cn-recolor-luminance",
    "cn-tile-colorfix-sharp",
    "cn-inpaint-only-fill", "cn-i2i-resize", "cn-inp-masked-crop-fill", "cn-inp-whole-global", "cn-no-detectmap",
    "cnx-diffusers", "cnx-pooled-prompt", "cnx-t2i-region", "cnx-t2i-hires", "cnx-t2i-and-control",
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded(parity: Path) -> Path:
    return recorded_folder(parity, "controlnet")


@pytest.fixture(scope="module")
def services(parity: Path, recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    data = tmp_path_factory.mktemp("controlnet")
    lay_out(parity, data)
    lay_out(recorded, data)
    nets = unpack_models(parity, "ControlNet", data)
    shutil.copy(nets / "tinyControlB.safetensors", nets / "tinyControl_shuffle.safetensors")
    with recorded_services(data) as services:
        yield services


@pytest.fixture(scope="module")
def engine(services: Services) -> Iterator[Engine]:
    with one_thread(services) as engine:
        yield engine


@pytest.fixture(scope="module")
def cases(recorded: Path) -> dict[str, Case]:
    return {case.name: case for case in load_cases(recorded)}


@pytest.mark.parametrize("name", CASES)
def test_pictures_maps_and_texts_are_those_of_the_original(engine: Engine, cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    result = made(engine, case.endpoint, case.body())
    assert len(result.images) == len(case.files)
    for index, ours in enumerate(result.images):
        apart = difference(Image.open(io.BytesIO(ours.data)), case.picture(index))
        assert apart is not None
        assert apart.passes, index
    texts = [without_version(text) for text in result.info["infotexts"]]
    assert texts[: len(case.infotexts)] == [without_version(text) for text in case.infotexts]


def test_a_unit_s_preprocessor_may_be_a_network(engine: Engine, recorded: Path) -> None:
    picture = base64.b64encode((recorded / "inputs" / "scene.png").read_bytes()).decode()
    unit = {"enabled": True, "module": "openpose", "model": "tinyControl", "image": picture, "processor_res": 64}
    body = {"prompt": "a", "steps": 1, "width": 64, "height": 64, "alwayson_scripts": {"ControlNet": {"args": [unit]}}}
    result = made(engine, "txt2img", body)
    assert [image.width for image in result.images] == [64, 64]
    assert any("MoveNet" in comment for comment in result.comments)
    unit["module"] = "depth_zoe"
    with pytest.raises(InvalidRequest, match="ZoeD_M12_N.pt"):
        made(engine, "txt2img", body)


def test_lama_fills_what_is_then_painted(engine: Engine, recorded: Path) -> None:
    pytest.importorskip("controlnet_aux")
    from tests.extensions.controlnet import annotators

    annotators.written(engine.paths.models / "ControlNet" / "preprocessors", "ControlNetLama.pth")
    picture, mask = annotators.scene(64, 64), np.zeros((64, 64, 3), np.uint8)
    mask[24:40, 24:40] = 255
    image, mask_of = (base64.b64encode(encode_image(Image.fromarray(p), "png", None)).decode() for p in (picture, mask))
    unit = {"enabled": True, "model": "tinyControl", "image": image, "mask": mask_of}
    body = {"prompt": "a", "steps": 2, "width": 64, "height": 64, "seed": 1, "batch_size": 2}
    results = {}
    for module in ("inpaint_only", "inpaint_only+lama"):
        scripts = {"ControlNet": {"args": [unit | {"module": module}]}}
        made_images = made(engine, "txt2img", body | {"alwayson_scripts": scripts}).images
        results[module] = [np.asarray(Image.open(io.BytesIO(image.data)).convert("RGB")) for image in made_images[:2]]
    for picture_made in results["inpaint_only+lama"]:
        assert (picture_made[:12] == picture[:12]).all()  # what isn't masked stays
    assert (results["inpaint_only"][1][28:36, 28:36] != results["inpaint_only+lama"][1][28:36, 28:36]).any()


@pytest.fixture(scope="module")
def url(services: Services) -> Iterator[str]:
    with serving_extensions(services) as address:
        yield address


def test_every_recorded_map_is_equal(url: str, recorded: Path) -> None:
    asked = json.loads((recorded / "maps.json").read_text("utf-8"))
    for name, case in asked.items():
        body = Case(name, recorded, "", case["request"], (), ()).body()
        answer = httpx.post(url + "/controlnet/detect", json=body, timeout=60)
        assert answer.status_code == 200, (name, answer.text)
        found = Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0])))
        wanted = Image.open(recorded / case["file"])
        assert (found.size, found.mode) == (wanted.size, wanted.mode), name
        apart = np.abs(np.asarray(found, np.int16) - np.asarray(wanted, np.int16))
        assert (apart <= 2).mean() >= 0.99, name


@pytest.mark.parametrize(
    ("route", "file"),
    [
        ("module_list", "module_list.json"),
        ("module_list?alias_names=true", "module_list-alias.json"),
        ("model_list", "model_list.json"),
        ("control_types", "control_types.json"),
        ("settings", "settings.json"),
        ("version", "version.json"),
    ],
)
def test_the_routes_answer_as_recorded(url: str, recorded: Path, route: str, file: str) -> None:
    answer = httpx.get(f"{url}/controlnet/{route}", timeout=60).json()
    assert answer == json.loads((recorded / "api" / file).read_text("utf-8"))


PICTURE = "@inputs/fit.png"


@pytest.mark.parametrize(
    ("unit", "error", "says"),
    [
        ({}, InvalidRequest, "no picture"),
        ({"image": PICTURE}, InvalidRequest, "no model"),
        ({"image": PICTURE, "model": "nosuch"}, NotFound, 'no model called "nosuch"'),
        ({"image": PICTURE, "model": "tinyControl", "module": "cany"}, InvalidRequest, 'no preprocessor called "cany"'),
        ({"image": PICTURE, "model": "tinyControl", "module": "hed"}, InvalidRequest, "ControlNetHED.pth"),
        ({"image": PICTURE, "model": "tinyControl", "weight": 3}, InvalidRequest, "Control Weight"),
        ({"image": PICTURE, "guidance_start": 0.9, "guidance_end": 0.1}, InvalidRequest, "starts at"),
        ({"image": "!!!", "model": "tinyControl"}, InvalidRequest, "not base64"),
        ({"image": PICTURE, "model": "tinyControl", "module": "inpaint_only"}, InvalidRequest, "needs a mask"),
        ({"image": PICTURE, "model": "tinyControl", "advanced_weighting": [1, 2]}, InvalidRequest, "2 weights"),
    ],
)  # fmt: skip
def test_mistakes_are_sentences_and_the_next_job_works(
    engine: Engine, recorded: Path, unit: dict[str, Any], error: type[Exception], says: str
) -> None:
    small = {"prompt": "a cat", "seed": 1, "steps": 2, "width": 64, "height": 64}
    asked = {"alwayson_scripts": {"ControlNet": {"args": [{"enabled": True, **unit}]}}}
    body = Case("", recorded, "", {**small, **asked}, (), ()).body()
    with pytest.raises(error, match=says):
        made(engine, "txt2img", body)
    assert len(made(engine, "txt2img", small).images) == 1
