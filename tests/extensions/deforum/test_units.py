"""ControlNet units of an animation: which picture steers which frame, and that it reaches the model."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extensions.controlnet.units import ControlNet
from extensions.deforum.animation import Animation
from extensions.deforum.painting import Painter
from extensions.deforum.run import Materials, frames, start
from extensions.deforum.settings_files import read_settings
from extensions.deforum.units import Units
from tests.engines import exact_engine
from tests.extensions.recorded import unpack_models
from tests.recordings import lay_out
from webui.extensions.api import InvalidRequest
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine

SIZE = {"W": 64, "H": 64, "seed": 3, "steps": 2, "max_frames": 3, "diffusion_cadence": 1, "legacy_colormatch": False}


def units_of(folder: Path, **given: Any) -> Units:
    return Units(ControlNet, Animation(read_settings({**SIZE, **given}).settings, 3), folder)


def picture(value: int) -> np.ndarray:
    return np.full((64, 64, 3), (value, 0, 0), dtype=np.uint8)


def seen(found: dict[str, Any], place: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(found["ControlNet"].units[place].image)))


def test_schedules_modes_and_old_words(tmp_path: Path) -> None:
    Image.new("RGB", (32, 48), (200, 0, 0)).save(tmp_path / "still.png")
    Image.new("L", (32, 48), 255).save(tmp_path / "mask.png")
    units = units_of(
        tmp_path, cn_2_enabled=True, cn_2_vid_path=str(tmp_path / "still.png"), cn_2_weight="0:(0), 2:(1)",
        cn_2_guidance_end="0:(0.2*t)", cn_2_guidance_start=0.1, cn_2_module="canny", cn_2_model="x",
        cn_2_threshold_a=12, cn_2_mask_vid_path=str(tmp_path / "mask.png"),
    )  # fmt: skip
    found = [units.extensions(frame, None)["ControlNet"].units for frame in range(3)]
    assert [len(several) for several in found] == [1, 1, 1]
    assert [several[0].weight for several in found] == [0, 0.5, 1]
    assert [several[0].guidance_end for several in found] == pytest.approx([0.1, 0.2, 0.4])
    unit = found[1][0]
    assert (unit.module, unit.model, unit.threshold_a, unit.guidance_start) == ("canny", "x", 12, 0.1)
    assert (unit.resize_mode, unit.enabled) == ("Crop and Resize", True)
    assert unit.mask is not None
    assert seen(units.extensions(2, None)).shape == (48, 32, 3)
    assert abs(int(seen(units.extensions(2, None))[0, 0, 0]) - 200) <= 2


def test_a_video_gives_each_frame_its_picture_and_ends(tmp_path: Path, parity: Path) -> None:
    clip = str(parity / "deforum" / "inputs" / "clip.mp4")
    units = units_of(tmp_path, max_frames=9, cn_1_enabled=True, cn_1_vid_path=clip)
    assert (tmp_path / "controlnet_1_inputframes" / "000000006.jpg").is_file()
    assert (seen(units.extensions(0, None)) != seen(units.extensions(6, None))).any()
    assert units.extensions(7, None) == {}
    assert len(list(tmp_path.glob("controlnet_1_inputframes/*"))) == 7
    units_of(tmp_path, max_frames=3, cn_1_enabled=True, cn_1_vid_path=clip)
    assert len(list(tmp_path.glob("controlnet_1_inputframes/*"))) == 3


def test_loopback_takes_what_is_painted_over(tmp_path: Path) -> None:
    units = units_of(tmp_path, cn_1_enabled=True, cn_1_loopback_mode=True, cn_5_enabled=True)
    assert units.extensions(0, None) == {}
    found = units.extensions(1, picture(77))
    assert (seen(found)[..., 2] == 77).all()
    assert len(found["ControlNet"].units) == 1


def test_without_controlnet_and_without_the_file(tmp_path: Path) -> None:
    settings = read_settings({**SIZE, "cn_1_enabled": True}).settings
    with pytest.raises(InvalidRequest, match="ControlNet is off"):
        Units(None, Animation(settings, 3), tmp_path)
    with pytest.raises(InvalidRequest, match=r"ControlNet model 1.*no file.*gone\.png"):
        units_of(tmp_path, cn_1_enabled=True, cn_1_vid_path="/gone.png")
    with pytest.raises(InvalidRequest, match="cn_1_weight"):
        units_of(tmp_path, cn_1_enabled=True, cn_1_weight="0:(nope)")
    units_of(tmp_path, cn_1_enabled=False, cn_1_weight="0:(nope)", cn_1_vid_path="/gone.png")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, parity: Path) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("deforum-units")
    lay_out(parity, data)
    unpack_models(parity, "ControlNet", data)
    with exact_engine(data, "tinyA.safetensors") as engine:
        yield engine


@pytest.mark.parity
def test_units_steer_the_model(engine: Engine, tmp_path: Path, parity: Path) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")

    def made(**given: Any) -> list[np.ndarray]:
        animation = Animation(read_settings({**SIZE, "max_frames": 2, **given}).settings, 3)
        units = Units(engine.host.easel.group("ControlNet"), animation, tmp_path)
        painter = Painter(JobContext.alone(engine=engine), animation, start(animation), units, {})
        return [frame.picture for frame in frames(animation, Materials(), painter)]

    four = {f"cn_{n}_{name}": value for n in (1, 2, 3, 5) for name, value in (
        ("enabled", True), ("model", "tinyControl"), ("module", "none"), ("vid_path", str(tmp_path / "a.png")),
        ("weight", "0:(0), 1:(1)"),
    )}  # fmt: skip
    plain, steered = made(), made(**four)
    assert (plain[0] == steered[0]).mean() > 0.99
    assert np.abs(plain[1].astype(int) - steered[1]).max() > 5
    with pytest.raises(InvalidRequest, match="unit 0 has no model"):
        made(cn_1_enabled=True, cn_1_vid_path=str(tmp_path / "a.png"))
