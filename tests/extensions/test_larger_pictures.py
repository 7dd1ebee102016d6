"""The scripts that make a picture larger: SD upscale and both outpaintings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.engines import exact_engine
from tests.extensions.test_scripts import Stopping, group, made, pixels, png, start
from tests.tiny import tiny_checkpoint
from webui.core.errors import InvalidRequest
from webui.core.grids import Tiling
from webui.core.pictures import decoded_picture
from webui.core.request import Inpaint
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine

UPSCALE, MK2, POOR = "SD upscale", "Outpainting mk2", "Poor man's outpainting"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    with exact_engine(data) as engine:
        yield engine


def gradient(width: int, height: int) -> Image.Image:
    across = np.linspace(0, 255, width, dtype=np.uint8)[None].repeat(height, 0)
    return Image.fromarray(np.stack([across, 255 - across, across], 2))


# Tiles


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "lefts", "tops"),
    [
        ((256, 128), (64, 64), 16, (0, 48, 96, 144, 192), (0, 32, 64)),
        ((100, 64), (64, 64), 0, (0, 36), (0,)),
        ((64, 63), (64, 64), 64, (0,), (0,)),
        ((1, 200), (64, 64), 63, (0,), tuple(range(137))),
        ((65, 64), (64, 64), 8, (0, 1), (0,)),
    ],
)
def test_tiles_cover_a_picture_evenly(
    size: tuple[int, int], tile: tuple[int, int], overlap: int, lefts: tuple[int, ...], tops: tuple[int, ...]
) -> None:
    tiling = Tiling.of(size, tile, overlap)
    assert (tiling.lefts, tiling.tops) == (lefts, tops)
    assert tiling.boxes()[-1][2:] == size


@pytest.mark.parametrize("size", [(64, 64), (200, 90), (31, 257)])
def test_a_picture_cut_and_joined_is_the_same(size: tuple[int, int]) -> None:
    picture = gradient(*size)
    tiling = Tiling.of(size, (48, 40), 12)
    again = tiling.joined([picture.crop(box) for box in tiling.boxes()])
    assert np.abs(np.asarray(again, int) - np.asarray(picture, int)).max() <= 1


def test_tiles_that_overlap_whole_are_refused() -> None:
    with pytest.raises(ValueError, match="tiles of 64 pixels can't overlap by 64"):
        Tiling.of((128, 64), (64, 64), 64)


# SD upscale


def upscaled(engine: Engine, job: JobContext | None = None, fields: dict[str, Any] | None = None, **values: Any) -> Any:
    chosen = group(engine, UPSCALE, **{"upscaler_index": "Lanczos", "overlap": 16, **values})
    return made(engine, job, **{**chosen, "image": start(), **(fields or {})})


def test_every_tile_is_painted_a_seed_higher(engine: Engine) -> None:
    job = JobContext.alone(engine=engine)
    whole = upscaled(engine, job)
    assert (whole.images[0].width, whole.images[0].height) == (128, 128)
    assert (job.progress.job_no, job.progress.job_count) == (9, 9)
    assert "SD upscale overlap: 16, SD upscale upscaler: Lanczos" in whole.images[0].infotext
    twice = upscaled(engine, fields={"batch_count": 2, "batch_size": 4})
    assert twice.info["all_seeds"] == [7, 8]
    assert len(twice.info["infotexts"]) == 2


def test_tiles_that_are_not_reached_stay_enlarged(engine: Engine) -> None:
    whole = upscaled(engine, Stopping.alone(engine=engine))
    large = decoded_picture(start().images[0]).resize((128, 128), Image.Resampling.LANCZOS)
    assert np.abs(pixels(whole)[70:, 70:] - np.asarray(large, np.int16)[70:, 70:]).max() <= 1
    assert np.abs(pixels(whole)[:40, :40] - np.asarray(large, np.int16)[:40, :40]).max() > 1


def test_a_mask_is_said_to_have_no_effect(engine: Engine) -> None:
    masked = start(inpaint=Inpaint(mask=png(Image.new("L", (64, 64), 255))))
    assert "the mask has no effect" in " ".join(upscaled(engine, fields={"image": masked}, scale_factor=1.0).comments)


@pytest.mark.parametrize(
    ("values", "fields", "said"),
    [
        ({"overlap": 64}, {}, "Tile overlap 64 must be smaller than the tiles, which are 64x64"),
        ({"overlap": 60, "scale_factor": 16}, {}, "would paint .* tiles; 4096 are the most"),
        ({"upscaler_index": "Lancoz"}, {}, "Lancoz"),
        ({"upscaler_index": "LDSR"}, {}, "LDSR"),
    ],
)
def test_what_cannot_be_upscaled_is_told(
    engine: Engine, values: dict[str, Any], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        upscaled(engine, fields=fields, **values)


# Outpainting


@pytest.mark.parametrize("title", [MK2, POOR])
@pytest.mark.parametrize(
    ("sides", "place", "size"),
    [
        (("left",), (64, 0), (128, 64)),
        (("right", "down"), (0, 0), (128, 128)),
        (("left", "right", "up"), (32, 64), (128, 128)),
    ],
)
def test_a_picture_grows_on_the_sides_that_are_chosen(
    engine: Engine, title: str, sides: tuple[str, ...], place: tuple[int, int], size: tuple[int, int]
) -> None:
    """Its middle stays; sides are rounded up to 64 pixels, and what is added is shared."""
    values = {"pixels": 32, "mask_blur": 0, "direction": sides}
    picture = gradient(64, 64)
    whole = made(engine, **group(engine, title, **values), image=start(images=(png(picture),)))
    assert (whole.images[-1].width, whole.images[-1].height) == size
    inner = pixels(whole, len(whole.images) - 1)[place[1] :, place[0] :][:64, :64]
    assert (inner[8:-8, 8:-8] == np.asarray(picture)[8:-8, 8:-8]).all()


def test_mk2_makes_a_picture_of_each_seed_and_a_grid(engine: Engine) -> None:
    values = {"pixels": 64, "mask_blur": 2, "direction": ("up",)}
    whole = made(engine, **group(engine, MK2, **values), image=start(), batch_count=2, batch_size=1)
    assert whole.images[0].is_grid
    assert whole.info["all_seeds"] == [7, 8]
    assert (pixels(whole, 1) != pixels(whole, 2)).any()


def test_poor_mans_makes_one_picture_and_says_so(engine: Engine) -> None:
    values = {"pixels": 16, "mask_blur": 2, "direction": ("up",), "inpainting_fill": "latent noise"}
    whole = made(engine, **group(engine, POOR, **values), image=start(), batch_count=2)
    assert len(whole.images) == 1
    assert "one picture, whatever the batch count" in " ".join(whole.comments)


def test_an_interrupted_picture_has_what_was_painted(engine: Engine) -> None:
    whole = made(
        engine, Stopping.alone(engine=engine), **group(engine, MK2, pixels=64, direction=("left", "up")), image=start()
    )
    assert [(image.width, image.height) for image in whole.images] == [(128, 64)]


@pytest.mark.parametrize("title", [MK2, POOR])
def test_no_side_is_refused(engine: Engine, title: str) -> None:
    with pytest.raises(InvalidRequest, match="names no side"):
        made(engine, **group(engine, title, direction=()), image=start())


def test_tiles_must_be_larger_than_what_is_added(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="Pixels to expand, 64, must be less than the tiles' sides"):
        made(engine, **group(engine, POOR, pixels=64), image=start())
