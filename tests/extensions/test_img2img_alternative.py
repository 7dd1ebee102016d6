"""The script img2img alternative test: noise is found that becomes the picture again."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.choices import Script
from webui.core.pictures import encode_image
from webui.core.request import FromImage, GenerationRequest, GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.planning.script import make_script_plan

TITLE = "img2img alternative test"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    with exact_engine(data) as engine:
        assert engine.host.problems == ()
        yield engine


def request(engine: Engine, values: dict[str, Any], **others: Any) -> GenerationRequest:
    params = next(item.params for item in engine.choices.all(Script) if item.title == TITLE)
    assert params is not None
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)
    image = FromImage(images=(encode_image(picture, "png", None),), denoising_strength=0.6)
    fields = {"prompt": "a dog", "negative_prompt": "ugly", "seed": 7, "steps": 3, "width": 64, "height": 64}
    chosen = {"script": TITLE, "extensions": {params.__name__: params.checked(**{"st": 4, **values})}}
    unsaved = {"save_samples": False, "save_grid": False}
    return GenerationRequest(**{**fields, "sampler": "LMS", "image": image, **unsaved, **chosen, **others})


def made(engine: Engine, job: JobContext | None = None, **values: Any) -> GenerationResult:
    return engine.generate(request(engine, values), job or JobContext.alone(engine=engine))


def pixels(result: GenerationResult) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.images[0].data)), dtype=np.int16)


def test_what_is_overridden_and_what_not(engine: Engine) -> None:
    (own,) = make_script_plan(request(engine, {"original_prompt": "a cat"}), engine.planner).requests
    assert (own.prompt, own.negative_prompt, own.sampler, own.steps) == ("a cat", "", "Euler", 4)
    assert own.image is not None
    assert own.image.denoising_strength == 1
    kept = dict.fromkeys(("override_sampler", "override_prompt", "override_steps", "override_strength"), False)
    (own,) = make_script_plan(request(engine, kept), engine.planner).requests
    assert (own.prompt, own.negative_prompt, own.sampler, own.steps) == ("a dog", "ugly", "LMS", 3)
    assert own.image is not None
    assert own.image.denoising_strength == 0.6


def test_the_noise_follows_from_the_picture_and_not_from_the_seed(engine: Engine) -> None:
    def by_seed(seed: int, **values: Any) -> np.ndarray:
        return pixels(engine.generate(request(engine, values, seed=seed), JobContext.alone(engine=engine)))

    assert (by_seed(7) == by_seed(7)).all()
    found, mixed = (np.abs(by_seed(7, **values) - by_seed(8, **values)).mean() for values in ({}, {"randomness": 0.9}))
    assert found < mixed / 4  # the picture is encoded with a little noise of its own


@pytest.mark.parametrize(
    "values",
    [
        {"original_prompt": "a cat"},
        {"original_prompt": "a cat", "cfg": 2.0},
        {"original_negative_prompt": "blurry", "cfg": 3.0},
        {"st": 6},
        {"sigma_adjustment": True},
        {"randomness": 0.3},
    ],
)
def test_every_parameter_changes_the_picture(engine: Engine, values: dict[str, Any]) -> None:
    fixed = {"override_prompt": False, "override_steps": False}
    assert (pixels(made(engine, **{**fixed, **values})) != pixels(made(engine, **fixed))).any()


def test_the_text_tells_all_of_it(engine: Engine) -> None:
    told = "Denoising strength: 1.0, Decode prompt: , Decode negative prompt: , Decode CFG scale: 1.0, "
    told += "Decode steps: 4, Randomness: 0.0, Sigma Adjustment: False"
    assert told in made(engine).images[0].infotext


class StoppedAtOnce(JobContext):
    """A job that is interrupted before it has done anything."""

    def child(self, share: float) -> JobContext:
        part = super().child(share)
        return type(self)(part._record, part._surroundings, part._start, part._share, part.settings)

    @property
    def completes_pass(self) -> bool:
        return False


def test_a_stopped_search_hands_back_the_picture(engine: Engine, tmp_path: Path) -> None:
    result = made(engine, StoppedAtOnce.alone(engine=engine))
    assert len(result.images) == 1
