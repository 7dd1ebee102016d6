"""Operations of Extras on what is generated, as setting postprocessing_enable_in_main_ui says."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_checkpoint
from webui.core.flags import parse_flags
from webui.core.operations import Upscaling
from webui.core.params import Params
from webui.core.request import GenerationRequest, GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.generate import run
from webui.services.building import build_services

ENABLED = ("Create flipped copies", "Upscale", "Caption")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    (data / "config.json").write_text(json.dumps({"postprocessing_enable_in_main_ui": ENABLED}))
    services = build_services(parse_flags(["--data-dir", str(data), "--device", "cpu"], {})[0])
    services.settings.update({"sd_model_checkpoint": "tiny"})
    yield build(services)
    services.checkpoints.close()


def made(engine: Engine, *groups: Params, **values: Any) -> GenerationResult:
    small = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 1, "save_samples": False}
    extensions = {type(group).__name__: group for group in groups}
    return run(engine, engine.plan(GenerationRequest(**{**small, **values}, extensions=extensions)), JobContext.alone())


def group_of(engine: Engine, name: str) -> type[Params]:
    return next(group for group in engine.host.params if group.__name__ == name)


def pixels(result: GenerationResult, number: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.images[number].data)))


def test_only_the_operations_named_are_there(engine: Engine) -> None:
    names = {group.__name__ for group in engine.host.params}
    assert {"Upscaling", "FlippedCopies", "PictureCaption"} <= names
    assert not {"GFPGANRestoring", "CodeFormerRestoring", "SplitOversized", "FocalCrop"} & names


def test_without_values_nothing_is_done(engine: Engine) -> None:
    result = made(engine)
    assert pixels(result).shape == (64, 64, 3)
    assert "Postprocess" not in result.images[0].infotext
    assert result.comments == ()


def test_the_picture_is_enlarged_and_its_text_tells(engine: Engine) -> None:
    result = made(engine, Upscaling(upscaler_1="Nearest", scale=2.0))
    assert (pixels(result)[::2, ::2] == pixels(made(engine))).all()
    assert "Postprocess upscale by: 2.0, Postprocess upscaler: Nearest" in result.images[0].infotext


def test_copies_are_further_pictures_in_the_settings_order(engine: Engine) -> None:
    flipped = group_of(engine, "FlippedCopies")(enabled=True)
    order = {"postprocessing_operation_order": ("Create flipped copies",)}
    result = made(engine, flipped, Upscaling(upscaler_1="Nearest", scale=2.0), overrides=order)
    shapes = [pixels(result, number).shape for number in range(len(result.images))]
    assert (128, 128, 3) in shapes
    first, second = (pixels(result, result.index_of_first_image + number) for number in (0, 1))
    assert (first[:, ::-1] == second).all()


def test_what_cannot_be_done_is_told_and_the_picture_stays(engine: Engine) -> None:
    caption = group_of(engine, "PictureCaption")(enabled=True)
    result = made(engine, Upscaling(upscaler_1="LDSR"), caption)
    assert pixels(result).shape == (64, 64, 3)
    assert any(comment.startswith("Upscale was left out. LDSR isn't in this version") for comment in result.comments)
    assert any(comment.startswith("Caption was left out. Deepbooru has no weights") for comment in result.comments)
