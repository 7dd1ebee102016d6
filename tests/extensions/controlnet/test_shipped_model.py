"""The ControlNet for the checkpoint that ships."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import cast

import cv2
import httpx
import numpy as np
import pytest
from gradio.routes import App

from tests.api.conftest import Running, running
from tests.tiny import tiny_checkpoint
from tools.embedded_model.card import OUT
from tools.embedded_model.config import PRESETS
from tools.embedded_model.control import CONTROL, edge_f1, edges
from tools.embedded_model.export import CHECKPOINT
from tools.embedded_model.painter import Painter
from webui.app import build_app

SIDE = PRESETS["cpu"].native_size


def canny(client: httpx.Client) -> dict[str, object]:
    kinds: dict[str, dict[str, object]] = client.get("/controlnet/control_types").json()["control_types"]
    return kinds["Canny"]


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With two control models, of which only names count here, and no checkpoint but the one that ships."""
    data = tmp_path_factory.mktemp("shipped")
    nets = data / "models" / "ControlNet"
    nets.mkdir(parents=True)
    for name in ("control_v11p_sd15_canny", CONTROL.stem):
        (nets / f"{name}.safetensors").write_bytes(b"")
    with running(data) as easel:
        yield easel


def test_it_is_offered_and_chosen_with_the_shipped_checkpoint_alone(easel: Running) -> None:
    chosen = str(canny(easel.client)["default_model"])
    assert chosen.startswith(CONTROL.stem)
    assert chosen in easel.client.get("/controlnet/model_list").json()["model_list"]
    tiny_checkpoint(easel.services.paths.models / "Stable-diffusion", "other")
    easel.client.post("/sdapi/v1/refresh-checkpoints").raise_for_status()
    easel.client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "other"}).raise_for_status()
    assert str(canny(easel.client)["default_model"]).startswith("control_v11p_sd15_canny")
    assert chosen not in easel.client.get("/controlnet/model_list").json()["model_list"]


@pytest.mark.parametrize("at_first", [False, True])
def test_a_setting_says_whether_pixel_perfect_is_on_at_first(easel: Running, at_first: bool) -> None:
    easel.services.settings.update({"controlnet_pixel_perfect": at_first})
    page = cast(App, build_app(easel.services).routes[-1].app).get_blocks()  # type: ignore[attr-defined]
    boxes = [block for block in page.blocks.values() if str(block.elem_id).endswith("_pixel_perfect_checkbox")]
    assert len(boxes) >= 6
    assert {block.value for block in boxes} == {at_first}


def test_the_figures_are_those_of_the_file_and_hold_their_bars() -> None:
    figures = json.loads((OUT / "control.json").read_text("utf-8"))
    assert figures["sha256"] == hashlib.sha256(CONTROL.read_bytes()).hexdigest()
    assert figures["pictures"] == 32
    assert figures["with"] >= 0.6
    assert figures["without"] < 0.3


@pytest.fixture(scope="module")
def painter() -> Iterator[Painter]:
    with Painter(CHECKPOINT, SIDE) as painter:
        yield painter


@pytest.mark.parametrize(
    ("prompt", "scale", "place"),
    [
        ("a red apple, flat style, white background", 0.7, (-24, 20)),
        ("a cat, flat style, blue background", 0.8, (18, -16)),
    ],
)
def test_pictures_follow_edges_that_no_caption_tells(
    painter: Painter, prompt: str, scale: float, place: tuple[int, int]
) -> None:
    original = painter.paint(prompt, 3)[0]
    moved = np.array([[scale, 0, (1 - scale) * SIDE / 2 + place[0]], [0, scale, (1 - scale) * SIDE / 2 + place[1]]])
    border = tuple(int(value) for value in original[0, 0])
    picture = cv2.warpAffine(original, moved, (SIDE, SIDE), borderMode=cv2.BORDER_CONSTANT, borderValue=border)
    steered, wanted = painter.steer(picture, prompt, 11)
    plain = painter.paint(prompt, 11)[0]
    followed, ignored = (edge_f1(found, wanted[..., 0]) for found in edges(np.stack([steered, plain])))
    assert followed > 0.5
    assert followed > ignored + 0.2
