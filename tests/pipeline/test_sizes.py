"""Sizes as A1111 takes them: any, with latents that round down and an infotext that keeps what was asked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.request import (
    FromImage,
    GenerationRequest,
    GenerationResult,
    HiresFix,
    Inpaint,
    SoftInpainting,
    Variation,
)
from webui.diffusion.noise import BrownianPath, ImageNoise, RandomSource, slerp
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.pipeline.from_image.image_input import RESIZE_AND_FILL, fitted
from webui.pipeline.from_image.masks import only_masked_box, placed
from webui.pipeline.generate import run

NARROW = Path(__file__).parents[1] / "fixtures/pictures/narrow.png"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    models = data / "models" / "Stable-diffusion"
    tiny_checkpoint(models)
    tiny_checkpoint(models, "inpainting", in_channels=9)
    with exact_engine(data) as engine:
        yield engine


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def picture(width: int, height: int) -> bytes:
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return png(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> bytes:
    image = Image.new("L", size)
    image.paste(255, box)
    return png(image)


def made(engine: Engine, **values: Any) -> GenerationResult:
    small = {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 1, "sampler": "Euler"}
    request = GenerationRequest(**{**small, "save_samples": False, "save_grid": False, **values})
    return run(engine, engine.plan(request), JobContext.alone())


def size(result: GenerationResult) -> tuple[int, int]:
    return result.images[0].width, result.images[0].height


@pytest.mark.parametrize(("asked", "wanted"), [((77, 64), (72, 64)), ((100, 67), (96, 64)), ((71, 8), (64, 8))])
def test_latents_round_down_and_the_infotext_keeps_the_size(
    engine: Engine, asked: tuple[int, int], wanted: tuple[int, int]
) -> None:
    result = made(engine, width=asked[0], height=asked[1])
    assert size(result) == wanted
    assert f"Size: {asked[0]}x{asked[1]}" in result.images[0].infotext
    even = made(engine, width=wanted[0], height=wanted[1])
    assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(item.images[0].data))) for item in (result, even)))


@pytest.mark.parametrize("upscaler", ["Latent", "Latent (nearest-exact)", "Lanczos", "None"])
@pytest.mark.parametrize(
    ("first", "hires", "wanted"),
    [
        ((64, 64), {"resize_width": 100, "resize_height": 100}, (96, 96)),
        ((77, 64), {"scale": 2.0}, (152, 128)),
        ((64, 99), {"resize_width": 101}, (96, 152)),
        ((67, 100), {"resize_width": 130, "resize_height": 77}, (128, 72)),
        ((64, 64), {"scale": 1.35}, (80, 80)),
    ],
)
def test_the_second_pass_takes_any_size(
    engine: Engine, first: tuple[int, int], hires: dict[str, Any], wanted: tuple[int, int], upscaler: str
) -> None:
    result = made(engine, width=first[0], height=first[1], hires=HiresFix(upscaler=upscaler, steps=1, **hires))
    assert size(result) == wanted
    if "resize_height" in hires:
        assert f"Hires resize: {hires['resize_width']}x{hires['resize_height']}" in result.images[0].infotext


@pytest.mark.parametrize("resize_mode", [0, 1, 2, 3])
@pytest.mark.parametrize(("asked", "wanted"), [((77, 64), (72, 64)), ((65, 99), (64, 96))])
@pytest.mark.parametrize("checkpoint", ["tiny", "inpainting"])
def test_img2img_takes_any_size(
    engine: Engine, resize_mode: int, asked: tuple[int, int], wanted: tuple[int, int], checkpoint: str
) -> None:
    image = FromImage(images=(picture(77, 64),), resize_mode=resize_mode)
    overrides = {"sd_model_checkpoint": checkpoint, "img2img_color_correction": True}
    result = made(engine, width=asked[0], height=asked[1], image=image, overrides=overrides)
    assert size(result) == wanted
    assert f"Size: {asked[0]}x{asked[1]}" in result.images[0].infotext


@pytest.mark.parametrize("only_masked", [False, True])
@pytest.mark.parametrize("soft", [None, SoftInpainting()])
@pytest.mark.parametrize("fill", [0, 2])
def test_inpainting_takes_any_size(engine: Engine, only_masked: bool, soft: SoftInpainting | None, fill: int) -> None:
    inpaint = Inpaint(mask=mask((77, 67), (30, 0, 77, 67)), only_masked=only_masked, soft=soft, fill=fill)
    image = FromImage(images=(picture(77, 67),), inpaint=inpaint)
    overrides = {"return_mask": True, "return_mask_composite": True}
    result = made(engine, width=77, height=67, image=image, overrides=overrides)
    assert size(result) == ((77, 67) if only_masked else (72, 64))
    assert len(result.images) == 3


def test_resize_and_fill_with_one_pixel_missing(engine: Engine) -> None:
    image = FromImage(images=(NARROW.read_bytes(),), resize_mode=RESIZE_AND_FILL, denoising_strength=0.5)
    assert size(made(engine, width=96, height=64, image=image)) == (96, 64)


@pytest.mark.parametrize("missing", range(5))
@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("side", [96, 97])
def test_the_border_is_filled_however_wide_it_is(missing: int, upright: bool, side: int) -> None:
    def turned(size: tuple[int, int]) -> tuple[int, int]:
        return size[::-1] if upright else size

    image = Image.new("RGB", turned((side - missing, 64)), (200, 100, 50))
    filled = fitted(image, RESIZE_AND_FILL, *turned((side, 64)))
    assert filled.size == turned((side, 64))
    assert filled.getextrema() == ((200, 200), (100, 100), (50, 50))


@pytest.mark.parametrize("whole", [(64, 96), (96, 64), (512, 768), (333, 77)])
def test_only_masked_with_any_mask(whole: tuple[int, int]) -> None:
    """200 random masks, those at every edge, and one pixel in every corner: cut out, brought to size, laid back."""
    source = np.random.default_rng(1)
    width, height = whole
    boxes = []
    for _ in range(200):
        (left, right), (top, bottom) = (sorted(source.integers(0, side + 1, 2).tolist()) for side in whole)
        boxes.append((min(left, width - 1), min(top, height - 1), max(right, left + 1), max(bottom, top + 1)))
    boxes += [(0, 0, 1, height), (width - 1, 0, width, height), (0, 0, width, 1), (0, height - 1, width, height)]
    boxes += [(x, y, x + 1, y + 1) for x in (0, width // 2, width - 1) for y in (0, height // 2, height - 1)]
    image = Image.new("RGB", whole, (9, 8, 7))
    for number, box in enumerate(boxes):
        drawn = Image.new("L", whole)
        drawn.paste(255, box)
        target = ((64, 96), (96, 64), (512, 768), (77, 67))[number % 4]
        found = only_masked_box(drawn, (0, 1, 32)[number % 3], *target)
        assert found is not None
        assert 0 <= found.left < found.right <= width
        assert 0 <= found.top < found.bottom <= height
        part = fitted(image.crop(found.corners), RESIZE_AND_FILL, *target)
        assert (part.size, part.getextrema()) == (target, ((9, 9), (8, 8), (7, 7)))
        assert placed(part, whole, found).size == whole


@pytest.mark.parametrize("box", [(63, 63, 64, 64), (0, 0, 1, 1), (0, 20, 64, 21), (63, 0, 64, 64)])
def test_only_masked_with_the_smallest_masks(engine: Engine, box: tuple[int, int, int, int]) -> None:
    inpaint = Inpaint(mask=mask((64, 64), box), only_masked=True, padding=0, blur_x=0, blur_y=0)
    assert size(made(engine, image=FromImage(images=(picture(64, 64),), inpaint=inpaint))) == (64, 64)


# Noise


@pytest.mark.parametrize(("width", "height"), [(40, 8), (8, 8), (8, 40), (16, 16), (500, 8), (64, 16)])
@pytest.mark.parametrize("strength", [0.15, 0.5, 1.0])
def test_variations_of_the_smallest_sizes_are_numbers(engine: Engine, width: int, height: int, strength: float) -> None:
    variation = Variation(seed=2, strength=strength)
    assert size(made(engine, width=width, height=height, variation=variation, seed=4))[1] == height


def test_columns_without_an_angle_are_mixed_linearly_and_others_as_ever() -> None:
    low, high = torch.randn(4, 8, 5), torch.randn(4, 8, 5)
    unchanged = slerp(0.3, low, high)
    zeros = torch.zeros(4, 8, 5)
    assert torch.isfinite(slerp(0.3, zeros, high)).all()
    assert torch.allclose(slerp(0.3, zeros, high), 0.3 * high)
    assert torch.allclose(slerp(0.5, low, -low), torch.zeros_like(low), atol=1e-5)
    low[:, :, 2] = 0
    mixed = slerp(0.3, low, high)
    assert torch.equal(mixed[:, :, [0, 1, 3, 4]], unchanged[:, :, [0, 1, 3, 4]])
    assert torch.allclose(mixed[:, :, 2], 0.3 * high[:, :, 2])


@pytest.mark.parametrize("seed", [-2, -(2**63), 2**63 - 1, 2**53 + 1, -1_000_000])
@pytest.mark.parametrize("kind", ["CPU", "NV"])
def test_every_seed_of_64_bits_draws_its_own_numbers(seed: int, kind: str) -> None:
    source = RandomSource(kind, torch.device("cpu"))
    noise = ImageNoise((4, 8, 8), [seed, seed + 1], source, seed_delta=-5).next()
    assert not torch.equal(noise[0], noise[1])
    assert torch.equal(noise[0], ImageNoise((4, 8, 8), [seed], source).next()[0])
    assert torch.isfinite(BrownianPath((4, 8, 8), 0.0, 1.0, seed, source).increment(0.1, 0.5)).all()


def test_a_negative_seed_is_a_seed_as_in_the_original(engine: Engine) -> None:
    for sampler in ("Euler", "DPM++ SDE"):
        result = made(engine, seed=-5, sampler=sampler)
        assert "Seed: -5," in result.images[0].infotext
        assert made(engine, seed=-5, sampler=sampler).images[0].data == result.images[0].data
        assert made(engine, seed=5, sampler=sampler).images[0].data != result.images[0].data
    assert torch.equal(
        torch.randn(4, generator=torch.Generator().manual_seed(-5)),
        RandomSource("CPU", torch.device("cpu")).seeded(-5).randn((4,)),
    )
