"""The motion module for the checkpoint that ships."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.api.conftest import Running, running
from tools.embedded_model.config import PRESETS
from tools.embedded_model.motion import MOTION
from tools.embedded_model.moves import WORDS, direction

SIDE = PRESETS["cpu"].native_size

pytestmark = pytest.mark.skipif(not MOTION.exists(), reason="it has not been trained to its end yet")


@pytest.fixture(scope="module")
def easel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With no checkpoint but the one that ships, and no network."""
    with running(tmp_path_factory.mktemp("shipped")) as easel:
        easel.services.settings.update({"animatediff_model_path": str(MOTION.parent)})
        yield easel


@pytest.mark.parametrize("move", ["left", "down"])
def test_a_clip_moves_as_its_prompt_says(easel: Running, move: str) -> None:
    clip = {"enable": True, "model": MOTION.name, "video_length": 16, "format": ["PNG"]}
    body = {
        "prompt": f"a cat, {WORDS[move][0]}, flat style, blue background",
        "seed": 1,
        "steps": 8,
        "cfg_scale": 5,
        "sampler_name": "DPM++ 2M",
        "width": SIDE,
        "height": SIDE,
        "alwayson_scripts": {"AnimateDiff": {"args": [clip]}},
    }
    answer = easel.client.post("/sdapi/v1/txt2img", json=body, timeout=300)
    answer.raise_for_status()
    frames = [Image.open(io.BytesIO(base64.b64decode(data))) for data in answer.json()["images"]]
    assert len(frames) == 16
    assert direction(np.stack([np.asarray(frame.convert("RGB")) for frame in frames])) == move
