"""What is too large for the machine is told in a sentence, and what takes long can be stopped within a step."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.errors import InvalidRequest
from webui.core.request import FromImage, GenerationRequest, GenerationResult, HiresFix
from webui.jobs.context import JobContext
from webui.models.stopping import Patience, Stopped, stoppable
from webui.pipeline.engine import Engine
from webui.pipeline.generate import run
from webui.pipeline.limits import require_room_for


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    with exact_engine(data) as engine:
        yield engine


def made(engine: Engine, job: JobContext | None = None, **values: Any) -> GenerationResult:
    small = {"prompt": "a cat", "steps": 3, "width": 64, "height": 64, "seed": 1, "sampler": "Euler"}
    request = GenerationRequest(**{**small, "save_samples": False, "save_grid": False, **values})
    return run(engine, engine.plan(request), job or JobContext.alone())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"width": 16_384, "height": 16_384, "steps": 1}, "^16384 x 16384 is more than this machine"),
        ({"width": 4_096, "height": 4_096, "batch_size": 64}, "^64 pictures of 4096 x 4096 at once are more than"),
        ({"hires": HiresFix(resize_width=16_384, resize_height=16_384)}, "^Hires. fix: 16384 x 16384 is more"),
        ({"width": 2_048, "height": 2_048, "hires": HiresFix(scale=16)}, "^Hires. fix: 32768 x 32768 is more"),
        ({"hires": HiresFix(resize_width=16_384, resize_height=8)}, "^Hires. fix: 16384 x 16384 is more"),
    ],
)
def test_what_the_machine_has_no_memory_for_is_told_at_once(engine: Engine, values: dict[str, Any], said: str) -> None:
    begun = time.monotonic()
    with pytest.raises(InvalidRequest, match=said) as error:
        made(engine, **values)
    assert time.monotonic() - begun < 10
    assert "It can do" in str(error.value)


def test_an_upscaled_picture_has_the_same_limit() -> None:
    require_room_for(2_000, 2_000)
    with pytest.raises(InvalidRequest, match="It can do one of"):
        require_room_for(200_000, 200_000)


class AtBlock(JobContext):
    """A job that is told to stop when a block of some module is entered for the n-th time."""

    told = "interrupted"

    def watch(self, block: nn.Module, time: int) -> None:
        self.left = time
        block.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            self._publish(**{self.told: True})


def test_a_step_is_ended_between_two_blocks_and_the_last_whole_prediction_is_kept(engine: Engine) -> None:
    two = made(engine, steps=2)
    with engine.models.lease(engine.checkpoints.find("tiny")) as model:
        first, last = model.unet.down_blocks[0], model.unet.up_blocks[-1]
    entered: list[str] = []
    handles = [
        first.register_forward_pre_hook(lambda *_: entered.append("first")),
        last.register_forward_pre_hook(lambda *_: entered.append("last")),
    ]
    job = AtBlock.alone()
    job.watch(first, 3)
    result = made(engine, job, steps=20, batch_count=3)
    for handle in handles:
        handle.remove()
    assert len(result.images) == 1
    assert entered.count("last") == 2
    assert entered.count("first") == 3
    assert result.images[0].data != two.images[0].data
    assert made(engine, steps=2).images[0].data == two.images[0].data  # nothing is left behind


def test_a_skipped_picture_is_left_within_its_step_and_the_next_is_made(engine: Engine) -> None:
    class Skipped(AtBlock):
        told = "skipped"

    job = Skipped.alone()
    with engine.models.lease(engine.checkpoints.find("tiny")) as model:
        job.watch(model.unet.down_blocks[0], 2)
    result = made(engine, job, steps=4, batch_count=2, seed=5)
    whole = made(engine, steps=4, seed=6)
    assert len(result.images) == 2
    assert result.images[1].data == whole.images[0].data


def test_decoding_and_encoding_end_when_they_take_too_long(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine.models.lease(engine.checkpoints.find("tiny")) as model:
        decoder, encoder = model.vae.module.decoder, model.vae.module.encoder
    quick = AtBlock.alone()
    quick.watch(decoder.up_blocks[0], 1)
    assert len(made(engine, quick).images) == 1  # a moment is given to what is nearly done
    monkeypatch.setattr("webui.pipeline.generate.DECODING_SECONDS", -1.0)
    job = AtBlock.alone()
    job.watch(decoder.up_blocks[0], 1)
    result = made(engine, job, batch_count=2)
    assert result.images == ()
    assert any("being decoded" in comment for comment in result.comments)
    assert result.info["seed"] == 1
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    job = AtBlock.alone()
    job.watch(encoder.down_blocks[0], 1)
    result = made(engine, job, image=FromImage(images=(file.getvalue(),)))
    assert result.images == ()
    assert result.comments


def test_stopping_costs_no_bit_and_goes_away() -> None:
    torch.manual_seed(0)
    holder = nn.Module()
    holder.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    x = torch.randn(2, 4)

    def forward() -> torch.Tensor:
        return holder.layers[1](holder.layers[0](x))

    plain, told = forward(), [False]
    with stoppable(holder, lambda: told[0]):
        assert torch.equal(forward(), plain)
        told[0] = True
        with pytest.raises(Stopped):
            forward()
    assert torch.equal(forward(), plain)


def test_patience() -> None:
    asked = [False]
    patience = Patience(lambda: asked[0], 0.05)
    assert not patience.is_over()
    asked[0] = True
    assert not patience.is_over()
    time.sleep(0.06)
    assert patience.is_over()
