"""docs/extensions.md tells of every hook, and every extension of the tutorial runs."""

from __future__ import annotations

import base64
import inspect
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.running import Server
from tests.tiny import tiny_checkpoint
from webui.core.params import Params, param, picture
from webui.core.pictures import encode_image
from webui.core.values import KINDS
from webui.extensions import api, hookspecs
from webui.extensions.page import SLOTS
from webui.services.choices import LISTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
MANUAL = (DOCS / "extensions.md").read_text(encoding="utf-8")
TUTORIAL = (DOCS / "extension-tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n# extensions/([\w-]+)/extension\.py\n(.*?)```", TUTORIAL, re.DOTALL)


def test_the_table_lists_every_hook_with_its_arguments_and_no_other() -> None:
    section = MANUAL.split("## Hooks")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `(\w+\([\w, ]*\))` \|", section, re.MULTILINE)
    specs = {name: item for name, item in vars(hookspecs).items() if hasattr(item, f"{hookspecs.PROJECT}_spec")}
    real = [f"{name}({', '.join(inspect.signature(item).parameters)})" for name, item in specs.items()]
    assert sorted(listed) == sorted(real)


def test_the_manual_names_every_slot_and_only_lists_that_there_are() -> None:
    section = MANUAL.split("## The page")[1].split("##")[0]
    assert all(f"`{slot}`" in section for slot in SLOTS)
    row = next(line for line in MANUAL.splitlines() if "choices=function" in line)
    named = re.findall(r"`(\w+)`", row.split("one of Easel's:")[1])
    assert named
    assert set(named) <= set(LISTS)


def test_what_the_manual_declares_with_is_in_the_api() -> None:
    assert {"param", "picture", "group_list", "Params", "Panel", "Tab", "Assets"} <= set(api.__all__)
    assert {"radio", "color"} <= set(KINDS)
    assert callable(param)
    assert callable(picture)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every extension of the tutorial."""
    data = tmp_path_factory.mktemp("taught")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    for name, code in BLOCKS:
        folder = data / "extensions" / name
        folder.mkdir(parents=True)
        (folder / "extension.py").write_text(code, encoding="utf-8")
    running = Server(data)
    running.start()
    yield running
    assert running.stop() == 0


def made(server: Server, **scripts: Any) -> tuple[Image.Image, str]:
    """The picture and its text."""
    named = {title.replace("_", " "): {"args": args} for title, args in scripts.items()}
    answer = server.txt2img(alwayson_scripts=named)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    picture = Image.open(io.BytesIO(base64.b64decode(content["images"][0]))).convert("RGB")
    return picture, json.loads(content["info"])["infotexts"][0]


def test_every_kind_is_taught() -> None:
    assert [name for name, _ in BLOCKS] == [
        *("caption", "stickers", "flatten", "contact-sheet", "hello", "frame", "steps-sheet", "old-friend")
    ]
    assert TUTORIAL.count("```python") == len(BLOCKS)


def test_the_tutorials_extensions_do_what_they_say(taught: Server) -> None:
    assert [name for name, _ in BLOCKS if f'Extension "{name}"' in taught.log] == []
    plain, text = made(taught)
    assert not re.search("Caption|Sticker|Flatten|Old friend", text)
    captioned, text = made(taught, Caption={"text": "hi, there"})
    assert captioned.getpixel((60, 60)) == (255, 255, 255)
    assert 'Caption: "hi, there"' in text
    red = base64.b64encode(encode_image(Image.new("RGB", (8, 8), "red"), "png", None)).decode()
    pasted, text = made(taught, stickers={"items": [{"image": red, "size": 16}]})
    assert pasted.getpixel((8, 8)) == (255, 0, 0)
    assert 'Sticker 0: "Size: 16"' in text
    flat, text = made(taught, flatten=[1.0])
    assert flat.tobytes() != plain.tobytes()
    assert "Flatten amount: 1.0" in text
    mirrored, text = made(taught, Old_friend=[False, True, 1])
    assert mirrored.tobytes() == plain.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes()
    assert "Old friend: vertical" in text


def test_the_tutorials_route_and_tab_are_there(taught: Server) -> None:
    assert httpx.get(f"{taught.url}/hello/Ada", timeout=60).json() == {"greeting": "Hello, Ada"}
    assert httpx.get(f"{taught.url}/hello/4da", timeout=60).status_code == 422
    config = httpx.get(f"{taught.url}/config", timeout=60).json()
    ids = {part["props"].get("elem_id") for part in config["components"]}
    assert {"tab_contact_sheet", "contact_sheet_pictures", "contact_sheet_prompt", "contact_sheet_generate"} <= ids
    assert {"contact_sheet_gallery", "img2img_Stickers_items_1_image", "txt2img_extension_Caption"} <= ids


def test_the_tutorials_step_and_script_do_what_they_say(taught: Server) -> None:
    red = base64.b64encode(encode_image(Image.new("RGB", (8, 8), "red"), "png", None)).decode()
    body = {"image": red, "extensions": {"Frame": {"args": {"frame_width": 3, "color": "#00ff00"}}}}
    answer = httpx.post(f"{taught.url}/sdapi/v1/extra-single-image", json=body, timeout=60).json()
    assert "Frame width: 3" in answer["html_info"]
    framed = Image.open(io.BytesIO(base64.b64decode(answer["image"]))).convert("RGB")
    assert (framed.size, framed.getpixel((0, 0)), framed.getpixel((7, 7))) == ((14, 14), (0, 255, 0), (255, 0, 0))
    answer = taught.txt2img(script_name="steps sheet", script_args=["1,2,3"]).json()
    sheet, *pictures = (Image.open(io.BytesIO(base64.b64decode(image))) for image in answer["images"])
    assert len(pictures) == 3
    assert sheet.width == 3 * pictures[0].width
    assert sheet.height > pictures[0].height
    steps = [text.partition("Steps: ")[2].partition(",")[0] for text in json.loads(answer["info"])["infotexts"][1:]]
    assert steps == ["1", "2", "3"]
    refused = taught.txt2img(script_name="steps sheet", script_args=["one"])
    assert (refused.status_code, "must be numbers" in refused.text) == (422, True)


def test_a_parameter_is_declared_in_one_place_and_appears_everywhere(taught: Server) -> None:
    """The name of the tutorial's parameter stands once in its code, but for its use."""
    code = dict(BLOCKS)["flatten"]
    assert len(re.findall(r"amount: float", code)) == 1
    config = httpx.get(f"{taught.url}/config", timeout=60).json()
    sliders = [part for part in config["components"] if str(part["props"].get("elem_id")).endswith("_Flatten_amount")]
    assert {part["props"]["elem_id"].partition("_Flatten")[0] for part in sliders} == {
        *("txt2img", "img2img", "contact_sheet", "mov2mov"),
    }
    assert {(part["type"], part["props"]["minimum"], part["props"]["maximum"]) for part in sliders} == {
        ("slider", 0, 1)
    }
    refused = taught.txt2img(alwayson_scripts={"Flatten": {"args": {"amount": 2}}})
    assert (refused.status_code, "Amount" in refused.text) == (422, True)
    assert issubclass(api.Params, Params)
