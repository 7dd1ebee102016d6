"""Batches of img2img on a tiny model."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_checkpoint
from webui.core.batch import BatchPicture, PictureBatch
from webui.core.errors import InvalidRequest
from webui.core.flags import parse_flags
from webui.core.pictures import encode_image
from webui.core.request import FromImage, GenerationRequest, GenerationResult, Inpaint
from webui.jobs.context import JobContext
from webui.pipeline.batch import run
from webui.pipeline.engine import Engine, build
from webui.planning.batch import make_batch_plan
from webui.services.building import build_services

SMALL: dict[str, Any] = {"prompt": "a house", "steps": 1, "width": 64, "height": 64}
TEXT = "a boat\nNegative prompt: fog\nSteps: 3, Sampler: Euler, CFG scale: 2.5, Seed: 77, Size: 8x8"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    flags = ["--data-dir", str(data), "--no-half", "--precision", "full", "--device", "cpu", "--no-hashing"]
    services = build_services(parse_flags(flags, {})[0])
    yield build(services)
    services.checkpoints.close()


@pytest.fixture
def batch(tmp_path: Path) -> PictureBatch:
    """Two pictures; the second is wide and tells how it was made."""
    paths = (tmp_path / "one.png", tmp_path / "two.png")
    for path, size, text in zip(paths, ((64, 64), (128, 64)), (None, TEXT), strict=True):
        colours = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3).astype(np.uint8)
        path.write_bytes(encode_image(Image.fromarray(colours), "png", text))
    request = GenerationRequest(**SMALL, image=FromImage(denoising_strength=0.5))
    return PictureBatch(request, tuple(BatchPicture(path, described_by=path) for path in paths))


def made(engine: Engine, batch: PictureBatch, progress: JobContext | None = None) -> GenerationResult:
    return run(engine, make_batch_plan(batch, engine.planner), progress or JobContext.alone())


def test_every_picture_is_made_with_one_seed(engine: Engine, batch: PictureBatch) -> None:
    progress = JobContext.alone()
    result = made(engine, batch, progress)
    assert [(image.width, image.height) for image in result.images] == [(64, 64), (64, 64)]
    assert len(set(result.info["all_seeds"])) == 1
    assert len(result.info["infotexts"]) == 2
    assert result.images[0].data != result.images[1].data
    assert progress.progress.fraction == 1
    assert all(image.path for image in result.images)


def test_results_have_the_originals_names(engine: Engine, batch: PictureBatch, tmp_path: Path) -> None:
    goal = tmp_path / "out"
    made(engine, replace(batch, output=goal))
    made(engine, replace(batch, output=goal))  # nothing is written over
    assert sorted(path.name for path in goal.iterdir()) == ["one-1.png", "one.png", "two-1.png", "two.png"]
    several = tmp_path / "several"
    made(engine, replace(batch, output=several, request=batch.request.replace(batch_count=2)))
    assert sorted(path.name for path in several.iterdir()) == ["one-1.png", "one-2.png", "two-1.png", "two-2.png"]


def test_infotexts_bring_what_is_taken_and_nothing_else(engine: Engine, batch: PictureBatch) -> None:
    taken = frozenset({"Prompt", "Negative prompt", "Seed", "Sampler", "Steps", "CFG scale"})
    result = made(engine, replace(batch, taken=taken, request=batch.request.replace(seed=5)))
    first, second = result.info["infotexts"]
    assert first.startswith("a house\nSteps: 1, Sampler: DPM++ 2M")
    assert "Seed: 5," in first
    assert second.startswith("a house a boat\nNegative prompt:  fog\nSteps: 3, Sampler: Euler,")
    assert "CFG scale: 2.5, Seed: 77," in second
    second = made(engine, replace(batch, taken=frozenset({"Prompt"}))).info["infotexts"][1]
    assert second.startswith("a house a boat\nSteps: 1, Sampler: DPM++ 2M")


def test_a_scale_is_of_each_picture(engine: Engine, batch: PictureBatch) -> None:
    result = made(engine, replace(batch, scale=0.5))
    assert [(image.width, image.height) for image in result.images] == [(32, 32), (64, 32)]


def test_each_picture_has_its_mask(engine: Engine, batch: PictureBatch, tmp_path: Path) -> None:
    for name, white in (("left", slice(0, 32)), ("right", slice(32, 64))):
        mask = np.zeros((64, 64), np.uint8)
        mask[:, white] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    one = batch.pictures[0].path
    inpaint = Inpaint(mask=b"", blur_x=0, blur_y=0)
    masked = replace(
        batch,
        request=batch.request.replace(image=FromImage(denoising_strength=1, inpaint=inpaint)),
        pictures=tuple(BatchPicture(one, tmp_path / f"{name}.png") for name in ("left", "right")),
    )
    original = np.asarray(Image.open(one).convert("RGB"))
    left, right = (np.asarray(Image.open(io.BytesIO(image.data))) != original for image in made(engine, masked).images)
    assert (left[:, :32].any(), left[:, 32:].any()) == (True, False)
    assert (right[:, :32].any(), right[:, 32:].any()) == (False, True)


def test_what_cannot_be_read_is_left_out_and_told(engine: Engine, batch: PictureBatch, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    bad = [BatchPicture(tmp_path / "broken.png"), BatchPicture(tmp_path / "gone.png")]
    result = made(engine, replace(batch, pictures=(*bad, *batch.pictures), comments=("x has no mask.",)))
    assert len(result.images) == 2
    assert [comment.split(" ")[0] for comment in result.comments[:3]] == ["x", "broken.png", "gone.png"]
    with pytest.raises(InvalidRequest, match="picture"):
        made(engine, replace(batch, pictures=tuple(bad[:1])))
    with pytest.raises(InvalidRequest, match="gone.png can't be read"):
        made(engine, replace(batch, pictures=tuple(bad[1:])))


@pytest.mark.parametrize(("shown", "count"), [(0, 0), (1, 1), (-1, 2)])
def test_only_the_first_are_handed_back(engine: Engine, batch: PictureBatch, shown: int, count: int) -> None:
    result = made(engine, replace(batch, shown=shown))
    assert len(result.images) == len(result.info["infotexts"]) == count


def test_an_interrupted_batch_returns_what_it_has(engine: Engine, batch: PictureBatch) -> None:
    class StopsAfterOne(JobContext):
        @property
        def stopping(self) -> bool:
            return self.progress.job_no >= 1

    assert len(made(engine, batch, StopsAfterOne.alone()).images) == 1
