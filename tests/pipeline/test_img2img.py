"""The whole job from pictures on tiny models: what img2img, masks, and models that read pictures make of them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.choices import SAMPLERS
from webui.core.errors import InvalidRequest
from webui.core.hooks import Step
from webui.core.request import (
    FromImage,
    GenerationRequest,
    GenerationResult,
    HiresFix,
    Inpaint,
    Refiner,
    SoftInpainting,
)
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.pipeline.generate import run


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    models = data / "models" / "Stable-diffusion"
    tiny_checkpoint(models)
    tiny_checkpoint(models, "inpainting", in_channels=9)
    tiny_checkpoint(models, "edit", in_channels=8)
    with exact_engine(data) as engine:
        yield engine


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    """Smooth random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def mask(size: tuple[int, int] = (64, 64), box: tuple[int, int, int, int] = (32, 0, 64, 64)) -> bytes:
    image = Image.new("L", size)
    image.paste(255, box)
    return png(image)


def made(
    engine: Engine, image: FromImage | None = None, job: JobContext | None = None, **values: Any
) -> GenerationResult:
    small = {"prompt": "a cat", "steps": 4, "width": 64, "height": 64, "seed": 1, "sampler": "Euler", "image": image}
    request = GenerationRequest(**{**small, "save_samples": False, "save_grid": False, **values})
    return run(engine, engine.plan(request), job or JobContext.alone())


def pixels(result: GenerationResult, index: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.images[index].data)), dtype=np.int16)


def start(**values: Any) -> FromImage:
    return FromImage(**{"images": (png(picture()),), "denoising_strength": 0.6, **values})


def with_model(name: str) -> dict[str, Any]:
    return {"overrides": {"sd_model_checkpoint": name}}


def test_the_same_request_gives_the_same_bytes_and_the_picture_matters(engine: Engine) -> None:
    first, second = made(engine, start()), made(engine, start())
    assert first.images[0].data == second.images[0].data
    other = made(engine, start(images=(png(picture(seed=5)),)))
    assert (pixels(first) != pixels(other)).any()
    assert "Denoising strength: 0.6" in first.images[0].infotext
    assert first.info["denoising_strength"] == 0.6


def test_little_denoising_changes_little(engine: Engine) -> None:
    still = pixels(made(engine, start(denoising_strength=0)))
    apart = [np.abs(pixels(made(engine, start(denoising_strength=value))) - still).mean() for value in (0.25, 1.0)]
    assert 0 < apart[0] < apart[1]


def test_a_batch_is_its_pictures_one_by_one(engine: Engine) -> None:
    both = made(engine, start(), batch_size=2, sampler="Euler a")
    singly = [made(engine, start(), seed=seed, sampler="Euler a") for seed in (1, 2)]
    for index, single in enumerate(singly):
        assert np.abs(pixels(both, index) - pixels(single)).max() <= 1


def test_each_image_of_a_batch_may_start_from_a_picture_of_its_own(engine: Engine) -> None:
    images = (png(picture(seed=1)), png(picture(96, 64, seed=2)))
    several = made(engine, start(images=images), batch_size=4)
    assert len(several.images) == 2
    single = made(engine, start(images=images[1:]), seed=2)
    assert np.abs(pixels(several, 1) - pixels(single)).max() <= 1


@pytest.mark.parametrize(
    ("image", "values", "said"),
    [
        (FromImage(), {}, "no picture to start from"),
        (start(images=(png(picture()),) * 3), {"batch_size": 2}, "3 pictures .* batch of 2"),
        (start(images=(b"nothing",)), {}, "picture"),
        (start(), {"hires": HiresFix()}, "Hires. fix belongs to txt2img"),
        (start(inpaint=Inpaint(mask=b"nothing")), {}, "picture"),
        (
            start(inpaint=Inpaint(mask=mask((32, 32), (0, 0, 9, 9)), only_masked=True)),
            {},
            "mask has 32 x 32 .* 64 x 64",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(engine: Engine, image: FromImage, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as error:
        made(engine, image, **values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "UniPC", "DPM++ 2M SDE", "DPM fast"])
def test_what_is_not_masked_stays_to_the_pixel(engine: Engine, sampler: str) -> None:
    inpaint = Inpaint(mask=mask(), blur_x=0, blur_y=0, fill=0)
    result = pixels(made(engine, start(inpaint=inpaint), sampler=sampler))
    original = np.asarray(picture(), dtype=np.int16)
    assert (result[:, :32] == original[:, :32]).all()
    assert (result[:, 32:] != original[:, 32:]).any()


def test_only_masked_paints_a_part_at_full_size_and_puts_it_back(engine: Engine) -> None:
    large = picture(160, 128, seed=3)
    inpaint = Inpaint(mask=mask(large.size, (100, 40, 120, 60)), blur_x=0, blur_y=0, only_masked=True, padding=8)
    result = made(engine, start(images=(png(large),), inpaint=inpaint))
    assert "Inpaint area: Only masked, Masked area padding: 8" in result.images[0].infotext
    changed = (pixels(result) != np.asarray(large)).any(axis=-1)
    assert changed[40:60, 100:120].any()
    changed[40:60, 100:120] = False
    assert not changed.any()


def test_an_empty_mask_paints_all_of_the_picture_and_says_so(engine: Engine) -> None:
    blank = Inpaint(mask=mask(box=(0, 0, 0, 0)), only_masked=True)
    result = made(engine, start(inpaint=blank))
    assert any("mask is empty" in comment for comment in result.comments)
    assert (pixels(result) == pixels(made(engine, start()))).all()
    assert "Inpaint area" not in result.images[0].infotext


def test_the_inverse_mask_paints_the_rest(engine: Engine) -> None:
    inverted = Inpaint(mask=mask(), blur_x=0, blur_y=0, invert=True)
    other = Inpaint(mask=mask(box=(0, 0, 32, 64)), blur_x=0, blur_y=0)
    first, second = made(engine, start(inpaint=inverted)), made(engine, start(inpaint=other))
    assert (pixels(first) == pixels(second)).all()
    assert "Mask mode: Inpaint not masked" in first.images[0].infotext


def test_a_latent_mask_of_its_own_decides_where_noise_changes_things(engine: Engine) -> None:
    whole, half = mask(box=(0, 0, 64, 64)), mask()
    plain = Inpaint(mask=half, blur_x=0, blur_y=0)
    changed = {"overrides": {"overlay_inpaint": False}}
    shown = made(engine, start(inpaint=plain.replace(mask=whole, latent_mask=half)), **changed)
    assert (pixels(shown) == pixels(made(engine, start(inpaint=plain), **changed))).all()


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_soft_inpainting_writes_its_values_and_blends(engine: Engine, sampler: str) -> None:
    soft = Inpaint(mask=mask(), blur_x=8, blur_y=8, soft=SoftInpainting())
    result = made(engine, start(inpaint=soft), sampler=sampler)
    text = result.images[0].infotext
    assert "Soft inpainting enabled: True, Soft inpainting schedule bias: 1.0" in text
    assert text.index("Soft inpainting difference contrast: 2.0") < text.index("Mask blur: 8")
    hard = made(engine, start(inpaint=soft.replace(soft=None)), sampler=sampler)
    assert (pixels(result) != pixels(hard)).any()


def test_masks_are_handed_back_and_saved_on_request(engine: Engine) -> None:
    inpaint = Inpaint(mask=mask(), blur_x=0, blur_y=0)
    wished = {"return_mask": True, "return_mask_composite": True, "save_mask": True, "save_mask_composite": True}
    overrides = {**wished, "outdir_img2img_samples": "masks", "save_to_dirs": False, "samples_filename_pattern": "x"}
    result = made(engine, start(inpaint=inpaint), overrides=overrides, save_samples=True)
    finished, shown, composite = (Image.open(io.BytesIO(image.data)) for image in result.images)
    assert shown.convert("L").tobytes() == Image.open(io.BytesIO(inpaint.mask)).tobytes()
    assert composite.mode == "RGBA"
    assert composite.getchannel("A").getbbox() == (32, 0, 64, 64)
    assert "parameters" in finished.info
    assert "parameters" not in shown.info
    assert len(result.info["infotexts"]) == 1
    saved = sorted(path.name.split("-", 1)[1] for path in (engine.paths.data / "masks").iterdir())
    assert saved == ["x-mask-composite.png", "x-mask.png", "x.png"]


def test_pictures_to_start_from_are_kept_once_under_their_hash(engine: Engine) -> None:
    overrides = {"save_init_img": True, "outdir_init_images": "inits"}
    for _ in range(2):
        result = made(engine, start(), overrides=overrides)
    [kept] = (engine.paths.data / "inits").iterdir()
    assert f"Init image hash: {kept.stem}" in result.images[0].infotext
    assert Image.open(kept).tobytes() == picture().tobytes()


def test_colours_are_corrected_before_the_original_is_laid_over(engine: Engine) -> None:
    inpaint = Inpaint(mask=mask(), blur_x=0, blur_y=0)
    overrides = {"img2img_color_correction": True, "save_images_before_color_correction": True}
    saving = {"outdir_img2img_samples": "colours", "save_to_dirs": False}
    result = made(engine, start(inpaint=inpaint), overrides={**overrides, **saving}, save_samples=True)
    plain = pixels(made(engine, start(inpaint=inpaint)))
    assert (pixels(result)[:, :32] == np.asarray(picture())[:, :32]).all()
    assert (pixels(result)[:, 32:] != plain[:, 32:]).any()
    [before] = (engine.paths.data / "colours").glob("*before-color-correction*")
    assert (np.asarray(Image.open(before)) == plain).all()


def test_the_noise_multiplier_of_the_request_counts_and_is_written(engine: Engine) -> None:
    plain, more = made(engine, start()), made(engine, start(noise_multiplier=1.2))
    assert "Noise multiplier: 1.2" in more.images[0].infotext
    assert "Noise multiplier" not in plain.images[0].infotext
    assert (pixels(plain) != pixels(more)).any()


@pytest.mark.parametrize("model", ["inpainting", "edit"])
def test_models_that_read_pictures_make_them_every_way(engine: Engine, model: str) -> None:
    for image, values in (
        (None, {"hires": HiresFix(steps=1)}),
        (None, {"hires": HiresFix(steps=1, upscaler="Lanczos", checkpoint="tiny")}),
        (start(), {"batch_size": 2, "prompt": "a cat AND a dog:0.5"}),
        (start(inpaint=Inpaint(mask=mask(), only_masked=True)), {}),
        (start(resize_mode=3, images=(png(picture(48, 80)),)), {}),
        (start(), {"refiner": Refiner(checkpoint="tiny", switch_at=0.6)}),
    ):
        result = made(engine, image, **with_model(model), **values, steps=2)
        assert pixels(result).std() > 0
        if model == "inpainting":
            assert "Conditional mask weight: 1.0" in result.images[0].infotext
        assert result.info["is_using_inpainting_conditioning"] == (model == "inpainting")


def test_a_plain_model_may_hand_over_to_one_that_reads_pictures(engine: Engine) -> None:
    result = made(engine, start(), refiner=Refiner(checkpoint="inpainting", switch_at=0.6))
    assert "Refiner: inpainting" in result.images[0].infotext


def test_an_inpainting_model_sees_the_less_of_the_masked_part_the_more_the_setting_says(engine: Engine) -> None:
    inpaint = Inpaint(mask=mask(), blur_x=0, blur_y=0)
    results = []
    for weight in (0.0, 1.0):
        overrides = {"sd_model_checkpoint": "inpainting", "inpainting_mask_weight": weight}
        results.append(pixels(made(engine, start(inpaint=inpaint), overrides=overrides)))
    assert (results[0] != results[1]).any()


def test_an_edit_model_weighs_its_picture_by_the_image_cfg_scale(engine: Engine) -> None:
    results = [made(engine, start(image_cfg_scale=scale), **with_model("edit")) for scale in (1.0, 1.5)]
    assert "Image CFG scale: 1.5" in results[1].images[0].infotext
    assert (pixels(results[0]) != pixels(results[1])).any()
    with pytest.raises(InvalidRequest, match="AND can't be used"):
        made(engine, start(image_cfg_scale=1.5), **with_model("edit"), prompt="a AND b")
    plain = made(engine, start(image_cfg_scale=1.5))
    assert "Image CFG scale" not in plain.images[0].infotext
    assert (pixels(plain) == pixels(made(engine, start()))).all()


def test_every_sampler_paints_from_a_picture(engine: Engine) -> None:
    for sampler in SAMPLERS:
        for strength in (0.0, 0.5) if sampler.walk != "adaptive" else (0.0,):
            result = made(engine, start(denoising_strength=strength), sampler=sampler.name, steps=3)
            assert pixels(result).std() > 0, sampler.name


class Stopping(JobContext):
    """A job that is interrupted at its second step."""

    def steps(self, steps: Sequence[Step]) -> Iterator[Step]:
        for step in super().steps(steps):
            if step.index == 1:
                self._publish(interrupted=True)
            yield step


def test_an_interrupted_job_keeps_what_is_not_masked(engine: Engine) -> None:
    inpaint = Inpaint(mask=mask(), blur_x=0, blur_y=0)
    result = made(engine, start(inpaint=inpaint), Stopping.alone(), steps=30, batch_count=3)
    assert len(result.images) == 1
    assert (pixels(result)[:, :32] == np.asarray(picture())[:, :32]).all()
