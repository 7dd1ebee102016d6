"""What extensions offer by name, beside our own: chosen on whole jobs, and listed where ours are."""

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
from webui.core.choices import Axis, Choices, ExtrasStep, Sampler, Upscaler
from webui.core.errors import InvalidRequest
from webui.core.extras import ExtrasRequest, PictureSource
from webui.core.pictures import encode_image
from webui.core.request import GenerationRequest, GenerationResult, HiresFix
from webui.extensions.host import Host
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.pipeline.extras import run as run_extras
from webui.pipeline.generate import run
from webui.planning.extras import make_extras_plan

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "extensions" / "enlarge"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    (data / "extensions").mkdir()
    (data / "extensions" / "enlarge").symlink_to(FIXTURE)
    with exact_engine(data) as engine:
        assert [problem for problem in engine.host.problems if problem.name == "enlarge"] == []
        yield engine


def made(engine: Engine, **values: Any) -> GenerationResult:
    small = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 1, "sampler": "Euler"}
    request = GenerationRequest(**{**small, "save_samples": False, "save_grid": False, **values})
    return run(engine, engine.plan(request), JobContext.alone())


def pixels(result: GenerationResult) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.images[0].data)), dtype=int)


def test_an_upscaler_serves_the_second_pass(engine: Engine) -> None:
    result = made(engine, hires=HiresFix(upscaler="Mosaic", scale=2, denoising_strength=0))
    assert "Hires upscaler: Mosaic" in result.images[0].infotext
    lower = made(engine, hires=HiresFix(upscaler=" mosaic", scale=2, denoising_strength=0))
    assert lower.images[0].infotext == result.images[0].infotext
    assert (pixels(lower) == pixels(result)).all()
    assert pixels(result).shape == (128, 128, 3)
    other = made(engine, hires=HiresFix(upscaler="Lanczos", scale=2, denoising_strength=0))
    assert np.abs(pixels(result) - pixels(other)).max() > 2


def test_a_sampler_gives_its_pictures_under_each_of_its_names(engine: Engine) -> None:
    euler = pixels(made(engine))
    assert (pixels(made(engine, sampler="Straight")) == euler).all()
    assert "Sampler: Straight" in made(engine, sampler="k_straight").images[0].infotext


def test_a_kind_of_network_is_on_while_its_tag_says_so(engine: Engine) -> None:
    plain = made(engine)
    result = made(engine, prompt="a cat <shift:0.5>")
    assert np.abs(pixels(result) - pixels(plain)).max() > 4
    assert result.comments == ("Shifted by 0.5.",)
    assert made(engine).images[0].data == plain.images[0].data


SOURCE = PictureSource("cat.png", encode_image(Image.new("RGB", (32, 16), "blue"), "png", None, {}))


def extras(engine: Engine, frame: int, **values: Any) -> GenerationResult:
    group = next(step.params for step in engine.choices.all(ExtrasStep) if step.name == "Frame")
    assert group is not None
    asked = {"sources": (SOURCE,), "save": False, "extensions": {"Frame": group(width=frame)}}
    plan = make_extras_plan(ExtrasRequest(**asked, **values), engine.settings.snapshot(), engine.choices)
    return run_extras(engine, plan, JobContext.alone())


def test_an_extras_step_comes_in_its_order_and_tells_what_it_did(engine: Engine) -> None:
    """After ours, which is at 1000: the frame isn't enlarged."""
    (result,) = extras(engine, 5, upscaler_1="Mosaic", scale=2.0).images
    assert (result.width, result.height) == (64 + 10, 32 + 10)
    assert result.infotext == "Postprocess upscale by: 2.0, Postprocess upscaler: Mosaic, Frame width: 5"
    (plain,) = extras(engine, 0).images
    assert (plain.width, plain.height, plain.infotext) == (32, 16, "")


def test_an_axis_changes_the_request(engine: Engine) -> None:
    """Extensions find all of them in `easel.choices`."""
    axis = next(axis for axis in engine.host.easel.choices.all(Axis) if axis.label == "Frame of mind")
    assert axis.choices is not None
    assert [axis.apply(GenerationRequest(prompt="cat"), mood).prompt for mood in axis.choices()] == [
        "happy cat",
        "sad cat",
    ]


def test_a_list_is_asked_whenever_it_is_shown() -> None:
    choices, files = Choices(), ["A"]
    choices.add_list(Upscaler, lambda: [Upscaler(name, None) for name in files])
    assert choices.names(Upscaler) == ("None", "Lanczos", "Nearest", "A")
    files += ["B", "lanczos"]
    assert choices.names(Upscaler) == ("None", "Lanczos", "Nearest", "A", "B")
    assert choices.find_upscaler("b").name == "B"
    files.remove("A")
    with pytest.raises(InvalidRequest, match='No upscaler is called "A"'):
        choices.find_upscaler("A")


def test_names_that_are_taken_and_what_is_no_choice_are_refused() -> None:
    choices = Choices()
    choices.add(Sampler("Straight", "a:b", ("k_straight",)))
    for name in ("Euler", "k_EULER", "straight", "k_straight"):
        with pytest.raises(ValueError, match="already"):
            choices.add(Sampler(name, "a:b"))
    with pytest.raises(TypeError, match="can't be chosen"):
        choices.add("Euler")  # type: ignore[arg-type]


def test_an_extension_that_fails_to_register_is_named_and_the_others_do() -> None:
    from webui.extensions.api import hookimpl

    class Bad:
        @hookimpl
        def register_choices(self, choices: Choices) -> None:
            choices.add(Sampler("Euler", "a:b"))

    class Good:
        @hookimpl
        def register_choices(self, choices: Choices) -> None:
            choices.add(Sampler("Straight", "a:b"))

    host, choices = Host(), Choices()
    host.register("bad", Bad())
    host.register("good", Good())
    host.register_choices(choices)
    assert choices.find_sampler("Straight")[0].name == "Straight"
    ((name, sentence),) = ((problem.name, problem.sentence) for problem in host.problems)
    assert name == "bad"
    assert 'there is a Sampler called "Euler" already' in sentence
