"""The whole job on a tiny model: extensions, interruption, what is kept and what is saved."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.choices import ATTENTIONS
from webui.core.hooks import Step
from webui.core.request import GenerationRequest, GenerationResult, HiresFix
from webui.extensions.errors import ExtensionFailed
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.pipeline.generate import run

BRIGHTEN = '''
from PIL import ImageChops
from webui.extensions.api import Params, hookimpl, param


class Inverted(Params):
    """Turn colours around"""

    on: bool = param(False, label="Invert", infotext="Inverted")


@hookimpl
def register_params():
    return Inverted


@hookimpl
def postprocess_image(image, plan):
    return ImageChops.invert(image) if plan.extension(Inverted).on else None
'''


SHORT_OF_MEMORY = '''
import torch
from webui.extensions.api import Params, hookimpl, param


class Short(Params):
    """Memory runs out"""

    times: int = param(0, label="How often")


failures = []


@hookimpl
def register_params():
    return Short


@hookimpl
def denoiser_hooks(plan):
    if len(failures) < plan.extension(Short).times:
        failures.append(plan)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
    failures.clear()
'''


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    (data / "extensions" / "inverted").mkdir(parents=True)
    (data / "extensions" / "inverted" / "extension.py").write_text(BRIGHTEN)
    (data / "extensions" / "short").mkdir()
    (data / "extensions" / "short" / "extension.py").write_text(SHORT_OF_MEMORY)
    tiny_checkpoint(data / "models" / "Stable-diffusion", "other", seed=5)
    with exact_engine(data) as engine:
        yield engine


def made(engine: Engine, job: JobContext | None = None, **values: Any) -> GenerationResult:
    small = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 1, "sampler": "Euler"}
    request = GenerationRequest(**{**small, "save_samples": False, "save_grid": False, **values})
    return run(engine, engine.plan(request), job or JobContext.alone())


def test_an_extensions_parameter_changes_the_picture_and_is_written(engine: Engine) -> None:
    (group,) = (params for params in engine.host.params if params.__name__ == "Inverted")
    plain = made(engine)
    inverted = made(engine, extensions={"Inverted": group(on=True)})
    a, b = (Image.open(io.BytesIO(result.images[0].data)).tobytes() for result in (plain, inverted))
    assert all(x + y == 255 for x, y in zip(a, b, strict=True))
    assert "Inverted: True" in inverted.images[0].infotext
    assert "Inverted" not in plain.images[0].infotext


def test_the_last_prompt_is_kept(engine: Engine) -> None:
    made(engine, prompt="a very particular cat")
    assert engine.paths.params_txt.read_text().startswith("a very particular cat\nSteps: 2, Sampler: Euler")


def test_network_tags_are_taken_out_and_reported(engine: Engine) -> None:
    result = made(engine, prompt="a cat <lora:missing:1>")
    assert any("missing" in comment for comment in result.comments)
    assert result.images[0].infotext.startswith("a cat <lora:missing:1>\n")
    plain, tagged = (
        Image.open(io.BytesIO(item.images[0].data)).tobytes() for item in (made(engine, prompt="a cat "), result)
    )
    assert plain == tagged


def test_pictures_before_the_second_pass_are_saved_on_request(engine: Engine) -> None:
    overrides = {"save_images_before_highres_fix": True, "save_txt": True}
    result = made(engine, hires=HiresFix(steps=1), overrides=overrides, save_samples=True, seed=31)
    saved = sorted(path.name for path in (engine.paths.data / "outputs").rglob("*31*"))
    assert [name.split("-", 1)[1] for name in saved] == [
        "31-before-highres-fix.png",
        "31-before-highres-fix.txt",
        "31.png",
        "31.txt",
    ]
    assert (result.images[0].width, result.images[0].height) == (128, 128)


def test_info_can_be_sent_as_json(engine: Engine) -> None:
    result = made(engine, batch_size=2, sampler="Euler a", overrides={"eta_noise_seed_delta": 5})
    info = json.loads(json.dumps(result.info))
    assert info["all_seeds"] == [1, 2]
    assert info["infotexts"][0].endswith("Version: v1.10.1")
    assert "ENSD: 5" in info["infotexts"][0]


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_other_formats_carry_the_infotext(engine: Engine, kind: str) -> None:
    from webui.core.pictures import read_infotext

    result = made(engine, overrides={"samples_format": kind}, save_samples=True, seed=77)
    path = Path(result.images[0].path or "")
    assert path.suffix == f".{kind}"
    assert read_infotext(path.read_bytes())[0] == result.images[0].infotext


def test_pictures_of_a_prompt_do_not_depend_on_what_ran_before(engine: Engine) -> None:
    first = made(engine, sampler="Euler a", steps=3).images[0].data
    made(engine, prompt="another", sampler="DPM++ SDE", tiling=True)
    assert made(engine, sampler="Euler a", steps=3).images[0].data == first


def test_every_sampler_makes_a_picture_in_both_passes(engine: Engine) -> None:
    from webui.core.choices import SAMPLERS

    for sampler in SAMPLERS:
        result = made(engine, sampler=sampler.name, steps=3, hires=HiresFix(steps=2, denoising_strength=0.6))
        picture = Image.open(io.BytesIO(result.images[0].data))
        assert picture.size == (128, 128), sampler.name
        assert max(high - low for low, high in picture.getextrema()) > 0, sampler.name


def test_every_schedule_makes_a_picture(engine: Engine) -> None:
    from webui.core.choices import SCHEDULERS

    for scheduler in SCHEDULERS:
        for steps in (1, 3):
            result = made(engine, scheduler=scheduler.label, steps=steps)
            assert result.images[0].width == 64, scheduler.label


class Stopping(JobContext):
    """A job that is told to stop at a certain step."""

    at, told = 2, "interrupted"

    def steps(self, steps: Sequence[Step]) -> Iterator[Step]:
        for step in super().steps(steps):
            if step.index == self.at:
                self._publish(**{self.told: True})
            yield step


def test_an_interrupted_job_hands_back_its_last_prediction(engine: Engine) -> None:
    stopping = Stopping.alone()
    result = made(engine, stopping, steps=50, batch_count=3)
    assert len(result.images) == 1
    assert stopping.progress.job_no == 1
    whole = made(engine, steps=50)
    assert result.images[0].data != whole.images[0].data


def test_a_skipped_picture_leaves_out_its_second_pass_and_the_next_one_is_made(engine: Engine) -> None:
    class Skipping(Stopping):
        told = "skipped"

    skipping = Skipping.alone()
    result = made(engine, skipping, steps=4, batch_count=2, hires=HiresFix(steps=2))
    assert [image.width for image in result.images] == [64, 64]
    assert skipping.progress.job_no == 4


@pytest.mark.parametrize("wished", [False, True])
def test_pictures_cut_short_are_shown_and_saved_only_by_setting(engine: Engine, wished: bool) -> None:
    overrides = {"save_incomplete_images": wished}
    result = made(engine, Stopping.alone(), steps=50, save_samples=True, overrides=overrides)
    assert len(result.images) == 1
    assert (result.images[0].path is not None) == wished
    assert made(engine, save_samples=True, overrides=overrides).images[0].path is not None


def short_of_memory(engine: Engine, times: int) -> dict[str, Any]:
    group = next(group for group in engine.host.params if group.__name__ == "Short")
    return {"extensions": {"Short": group(times=times)}}


def test_a_batch_that_ran_out_of_memory_is_made_again_with_less(engine: Engine) -> None:
    roomy = {"overrides": {"sd_checkpoints_limit": 2}}
    plain = made(engine, **roomy)
    engine.settings.update({"sd_checkpoints_limit": 2})
    try:
        for name in ("other", "tiny"):
            engine.models.preload(engine.checkpoints.find(name))
        job = JobContext.alone()
        again = made(engine, job, **short_of_memory(engine, 1), **roomy)
    finally:
        engine.settings.update({"sd_checkpoints_limit": 1})
    assert again.images[0].data == plain.images[0].data
    assert any("other models were unloaded" in comment for comment in again.comments)
    assert [item.name for item in engine.models.peek()] == ["tiny"]
    assert job.progress.job_no == job.progress.job_count == 1


def test_a_batch_takes_ever_cheaper_plans_until_it_fits(engine: Engine) -> None:
    plain = made(engine)
    engine.settings.update({"sd_checkpoints_limit": 2})
    try:
        for name in ("other", "tiny"):
            engine.models.preload(engine.checkpoints.find(name))
        with engine.models.borrow(("a network beside them",), object, 80):
            pass
        again = made(engine, **short_of_memory(engine, 2))
    finally:
        engine.settings.update({"sd_checkpoints_limit": 1})
    assert again.images[0].data == plain.images[0].data
    assert [
        comment.split(", so ")[1].split(" were ")[0] for comment in again.comments if "Memory ran out" in comment
    ] == [
        "auxiliary networks",
        "other models",
    ]


def test_memory_that_stays_short_ends_the_job(engine: Engine) -> None:
    with pytest.raises(ExtensionFailed, match="out of memory"):
        made(engine, **short_of_memory(engine, 1))
    with pytest.raises(ExtensionFailed, match="out of memory"):
        made(engine, **short_of_memory(engine, 2))
    assert made(engine).images


def test_every_attention_makes_nearly_the_same_picture(engine: Engine) -> None:
    def levels(**overrides: object) -> np.ndarray:
        data = made(engine, overrides=overrides).images[0].data
        return np.asarray(Image.open(io.BytesIO(data)), dtype=int)

    plain = levels()
    for name in ATTENTIONS:
        assert abs(levels(cross_attention_optimization=name) - plain).max() <= 2, name
    assert abs(levels(upcast_attn=True) - plain).max() <= 2
