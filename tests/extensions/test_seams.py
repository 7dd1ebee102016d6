"""Small extensions, one a seam, on whole jobs: what each changes, and that without it nothing is changed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.tiny import tiny_checkpoint
from webui.core.flags import parse_flags
from webui.core.hooks import Residuals
from webui.core.params import Params
from webui.core.pictures import encode_image, read_infotext
from webui.core.request import FromImage, GenerationRequest, GenerationResult, HiresFix, Refiner
from webui.extensions.host import Host
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.generate import run
from webui.services.building import build_services

torch = pytest.importorskip("torch")
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "extensions"
NAMES = sorted(folder.name for folder in FIXTURES.iterdir() if folder.is_dir())


def an_engine(data: Path, *more: str) -> Engine:
    flags = ["--data-dir", str(data), "--no-half", "--precision", "full", "--device", "cpu", *more]
    services = build_services(parse_flags(flags, {})[0])
    services.settings.update({"sd_model_checkpoint": "tiny"})
    return build(services)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    tiny_checkpoint(data / "models" / "Stable-diffusion", "other", seed=5)
    (data / "extensions").mkdir()
    for name in NAMES:
        (data / "extensions" / name).symlink_to(FIXTURES / name)
    return data


@pytest.fixture(scope="module")
def engine(data: Path) -> Iterator[Engine]:
    engine = an_engine(data)
    assert engine.host.problems == ()
    yield engine
    engine.checkpoints.close()


@pytest.fixture(scope="module")
def bare(data: Path) -> Iterator[Engine]:
    engine = an_engine(data, "--disable-extra-extensions")
    yield engine
    engine.checkpoints.close()


def group(host: Host, name: str) -> type[Params]:
    return next(params for params in host.params if params.__name__ == name)


def made(engine: Engine, request: dict[str, Any] | None = None, **groups: dict[str, Any]) -> GenerationResult:
    """groups: an extension's parameters by the name of its group."""
    small = {"prompt": "a cat", "negative_prompt": "a dog", "steps": 2, "width": 64, "height": 64, "seed": 1}
    values = {name: group(engine.host, name)(**given) for name, given in groups.items()}
    fixed = {"sampler": "Euler", "save_samples": False, "save_grid": False, "extensions": values}
    return run(engine, engine.plan(GenerationRequest(**{**small, **fixed, **(request or {})})), JobContext.alone())


def pixels(result: GenerationResult, index: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.images[index].data)), dtype=int)


@pytest.fixture(scope="module")
def plain(engine: Engine) -> np.ndarray:
    return pixels(made(engine))


REQUESTS: list[dict[str, Any]] = [
    {"batch_size": 2, "prompt": "a cat AND a dog :0.5"},
    {"hires": HiresFix(scale=1.5), "refiner": Refiner(checkpoint="other", switch_at=0.5)},
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_without_them_pictures_are_bit_equal(engine: Engine, bare: Engine, request_: dict[str, Any]) -> None:
    """With all of them installed and not asked for anything, and after each of them was at work."""
    assert {extension.name for extension in bare.host.extensions if extension.state == "disabled"} >= set(NAMES)
    busy = {"Control": {"weight": 1.0}, "Attend": {"weight": 1.0}, "Frames": {"linear": True}, "Twice": {"rounds": 2}}
    changed = made(engine, request_, **busy)
    idle, without = made(engine, request_), made(bare, request_)
    assert [image.data for image in idle.images] == [image.data for image in without.images]
    assert [image.data for image in idle.images] != [image.data for image in changed.images]
    assert idle.info["infotexts"] == without.info["infotexts"]


# The network call


def test_wrap_call_adds_residuals_by_weight_and_unit(engine: Engine, plain: np.ndarray) -> None:
    one = pixels(made(engine, Control={"weight": 1.0}))
    two = pixels(made(engine, Control={"weight": 0.5, "units": 2}))
    assert np.abs(one - plain).max() > 8
    assert np.abs(one - two).max() <= 1
    assert np.abs(pixels(made(engine, Control={"weight": 0.1})) - plain).mean() < np.abs(one - plain).mean()


def test_rows_say_which_prediction_each_is(engine: Engine, plain: np.ndarray) -> None:
    """At a scale of 1 the negative prompts have no say, at 0 the prompts; apart from rounding."""
    for together in (True, False):
        for scale, positive_only in ((1.0, False), (0.0, True)):
            request = {"cfg_scale": scale, "overrides": {"batch_cond_uncond": together}}
            alone = pixels(made(engine, request, Control={"weight": 1.0, "negative": False}))
            other = pixels(made(engine, request, Control={"weight": 0.0 if positive_only else 1.0}))
            assert np.abs(alone - other).max() <= 1
    assert np.abs(pixels(made(engine, Control={"weight": 1.0, "negative": False})) - plain).max() > 8


def test_adapters_add_inside_the_blocks(engine: Engine, plain: np.ndarray) -> None:
    inside = pixels(made(engine, Control={"weight": 1.0, "inside": True}))
    assert np.abs(inside - plain).max() > 2
    assert np.abs(inside - pixels(made(engine, Control={"weight": 1.0}))).max() > 2


def test_residuals_are_summed() -> None:
    one, two = torch.ones(1), torch.full((1,), 2.0)
    total = (
        Residuals((one, two), one) + Residuals((two, two), two) + Residuals(inside=(one,)) + Residuals(inside=(two,))
    )
    assert [float(part) for part in (*total.down, total.mid, *total.inside)] == [3, 4, 3, 3]
    with pytest.raises(AssertionError, match="neither"):
        Residuals((one,))


def test_the_controlled_pass_is_that_of_diffusers(engine: Engine) -> None:
    """The whole way of diffusers' ControlNet pipeline, over four steps whose timesteps are whole numbers."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionControlNetPipeline

    from webui.diffusion.noise import ImageNoise, RandomSource
    from webui.extensions.api import hookimpl

    class Probe:
        """Keeps what the pass came to."""

        @hookimpl
        def wrap_sampling(self, sample, this_pass):  # type: ignore[no-untyped-def]
            def kept(parts: Any) -> Any:
                found.append((this_pass, parts, sample(parts)))
                return found[-1][-1]

            return kept

    found: list[Any] = []
    engine.host.register("probe", Probe())
    made(engine, {"steps": 4, "scheduler": "Uniform"}, Control={"weight": 1.0})
    ((this_pass, parts, latents),) = found
    model = this_pass.model
    ((positive,),), (negative,) = parts.conds.positive, parts.conds.negative
    (network,) = (item.thing for key, item in engine.models._borrowed.items() if "tiny" in str(key))
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    none = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipeline = StableDiffusionControlNetPipeline(
        unet=model.unet, controlnet=network, scheduler=scheduler, requires_safety_checker=False, **none
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = ImageNoise((4, 8, 8), [1], RandomSource(engine.settings.snapshot()["randn_source"], model.device)).next()
    theirs = pipeline(
        prompt_embeds=positive.schedule[0].vectors[None],
        negative_prompt_embeds=negative[0].vectors[None],
        image=torch.linspace(0, 1, 64).expand(1, 3, 64, 64),
        latents=noise,
        width=64,
        height=64,
        guidance_scale=7.0,
        num_inference_steps=4,
        output_type="latent",
    ).images
    assert torch.allclose(latents, theirs, atol=1e-4, rtol=1e-4), float((latents - theirs).abs().max())
    assert float(latents.std()) > 0.1


def test_a_borrowed_network_is_loaded_once(engine: Engine) -> None:
    made(engine, Control={"weight": 1.0})
    first = dict(engine.models._borrowed)
    made(engine, {"steps": 3}, Control={"weight": 0.7})
    assert dict(engine.models._borrowed) == first
    assert [item.name for item in engine.models.peek() if item.kind == "auxiliary" and item.in_use] == []
    engine.models.unload()
    assert engine.models.peek() == ()


def test_attached_patches_attention_which_knows_its_rows(engine: Engine, plain: np.ndarray) -> None:
    with engine.models.lease(engine.checkpoints.find("tiny")) as model:
        before = model.unet.attn_processors
    assert np.abs(pixels(made(engine, Attend={"weight": 1.0})) - plain).max() > 8
    only_negative = {"cfg_scale": 0.0}
    assert (pixels(made(engine, only_negative, Attend={"weight": 1.0})) == pixels(made(engine, only_negative))).all()
    with engine.models.lease(engine.checkpoints.find("tiny")) as model:
        assert model.unet.attn_processors == before


# A pass, its sampling, its end


def test_revise_pass_replaces_the_noise(engine: Engine, plain: np.ndarray) -> None:
    shared = made(engine, {"batch_size": 2}, Frames={"shared": True})
    assert (pixels(shared, 0) == pixels(shared, 1)).all()
    assert np.abs(pixels(shared) - plain).max() <= 1
    apart = made(engine, {"batch_size": 2})
    assert np.abs(pixels(apart, 0) - pixels(apart, 1)).max() > 8


def test_revise_pass_replaces_the_noise_levels(engine: Engine, plain: np.ndarray) -> None:
    assert np.abs(pixels(made(engine, Frames={"linear": True})) - plain).max() > 4
    made(engine, {"sampler": "LCM"}, Frames={"linear": True})


def test_revise_pass_encodes_further_prompts(engine: Engine, plain: np.ndarray) -> None:
    both = made(engine, {"batch_size": 2}, Frames={"shared": True, "travel": "a red house"})
    house = pixels(made(engine, {"prompt": "a red house"}))
    assert np.abs(pixels(both, 0) - plain).max() <= 1
    assert np.abs(pixels(both, 1) - house).max() <= 1
    assert np.abs(house - plain).max() > 8


def test_revise_pass_sees_every_pass_and_the_refiner(engine: Engine) -> None:
    """Which passes a job has, as the extension is told; a refiner builds its parts by the same road."""
    from webui.extensions.api import hookimpl

    class Witness:
        @hookimpl
        def revise_pass(self, parts, this_pass):  # type: ignore[no-untyped-def]
            name = this_pass.model.checkpoint.model_name
            relieved = this_pass.relieved.model.checkpoint.model_name if this_pass.relieved else None
            seen.append((this_pass.kind, list(this_pass.indices), name, relieved, len(parts.conds.positive)))

    seen: list[Any] = []
    engine.host.register("witness", Witness())
    refiner = Refiner(checkpoint="other", switch_at=0.5)
    both = {"hires_fix_refiner_pass": "both passes"}
    made(engine, {"hires": HiresFix(scale=1.5), "refiner": refiner, "batch_count": 2, "overrides": both})
    first, second = ("first", [0], "tiny", None, 1), ("hires", [0], "tiny", None, 1)
    taken_over = [("first", [0], "other", "tiny", 1), ("hires", [0], "other", "tiny", 1)]
    assert [entry for entry in seen if entry[1] == [0]] == [first, taken_over[0], second, taken_over[1]]
    assert [entry[1] for entry in seen] == [[0]] * 4 + [[1]] * 4


def test_control_goes_on_when_a_refiner_takes_over(engine: Engine) -> None:
    """Each model has its own control network, and the call is wrapped anew around the refiner."""
    engine.models.unload()
    late = {"refiner": Refiner(checkpoint="other", switch_at=0.5), "steps": 4}
    made(engine, late, Control={"weight": 1.0})
    keys = [key for key in engine.models._borrowed if "control" in str(key)]
    assert len(keys) == 2
    assert "tiny" in str(keys[0])
    assert "other" in str(keys[1])


def test_wrap_sampling_samples_several_times(engine: Engine, plain: np.ndarray) -> None:
    twice, thrice = (pixels(made(engine, Twice={"rounds": rounds})) for rounds in (2, 3))
    assert np.abs(twice - plain).max() > 4
    assert np.abs(twice - thrice).max() > 4


def test_wrap_sampling_goes_through_the_refiner_each_time(engine: Engine) -> None:
    """The refiner is opened once, and every round begins with the pass's own model."""
    late = {"refiner": Refiner(checkpoint="other", switch_at=0.5), "steps": 4}
    merging = {"overrides": {"token_merging_ratio": 0.5}}
    first = made(engine, {**late, **merging}, Twice={"rounds": 3})
    assert [image.data for image in made(engine, {**late, **merging}, Twice={"rounds": 3}).images] == [
        image.data for image in first.images
    ]
    assert "Refiner: other" in first.images[0].infotext


def test_finish_batch_drops_adds_and_reports(engine: Engine) -> None:
    result = made(engine, {"batch_size": 3, "batch_count": 2}, Sheet={"keep": 2, "negatives": True})
    roles = [image.role for image in result.images]
    assert roles == ["picture", "picture", "control map", "control map"] * 2
    first = Image.open(io.BytesIO(result.images[0].data))
    negative = Image.open(io.BytesIO(result.images[2].data))
    assert ImageOps.invert(first).tobytes() == negative.tobytes()
    assert result.comments == ("1 pictures were dropped.",)
    assert "Negatives: 2" in result.images[0].infotext
    assert "Seed: 5" in result.images[5].infotext  # pictures 0, 1, 3, 4 are left
    assert result.images[2].infotext == ""


def test_img2img_starts_from_what_extensions_make_of_its_pictures(engine: Engine) -> None:
    def started(picture: Image.Image, **values: Any) -> GenerationResult:
        image = FromImage(images=(encode_image(picture, "png", None),), denoising_strength=0.4)
        return made(engine, {"image": image}, **values)

    ramp = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    inverted = started(ImageOps.invert(ramp))
    found = started(ramp, Sheet={"from_negatives": True})
    assert (pixels(found) == pixels(inverted)).all()
    assert (pixels(found) != pixels(started(ramp))).any()
    assert found.comments == ("1 pictures were inverted.",)


def test_a_picture_has_entries_and_a_source_type_of_its_own(engine: Engine, data: Path) -> None:
    result = made(engine, {"batch_size": 2}, Sheet={"numbered": True})
    for number, image in enumerate(result.images):
        assert f"Number: {number}" in image.infotext
        assert f"Version: {data.name}" in image.infotext
        assert read_infotext(image.data)[1]["DigitalSourceType"] == "compositeWithTrainedAlgorithmicMedia"
    (plain,) = made(engine).images
    assert read_infotext(plain.data)[1]["DigitalSourceType"] == "trainedAlgorithmicMedia"
    bare = made(engine, {"overrides": {"enable_pnginfo": False}})
    assert read_infotext(bare.images[0].data) == (None, {})


def test_a_grid_holds_the_pictures_that_are_left(engine: Engine) -> None:
    result = made(engine, {"batch_size": 3, "save_grid": True}, Sheet={"keep": 2, "negatives": True})
    assert [image.role for image in result.images] == ["grid", "picture", "picture", "control map", "control map"]
    assert result.images[0].width == 128


def test_only_pictures_are_saved(engine: Engine, tmp_path: Path) -> None:
    request = {"save_samples": True, "overrides": {"outdir_txt2img_samples": str(tmp_path), "save_to_dirs": False}}
    result = made(engine, request, Sheet={"negatives": True})
    assert [Path(str(image.path)).name for image in result.images if image.path] == [
        file.name for file in tmp_path.iterdir()
    ]


def test_finish_adds_files_of_every_kind(engine: Engine, tmp_path: Path) -> None:
    request = {"batch_count": 3, "overrides": {"outdir_txt2img_samples": str(tmp_path), "save_to_dirs": False}}
    result = made(engine, request, Film={"on": True})
    film, text = result.files
    assert (film.role, film.mime, film.infotext) == ("video", "image/gif", "a film")
    with Image.open(io.BytesIO(film.data)) as image:
        assert image.n_frames == 3
    assert (text.role, text.data) == ("text", b"1\na cat\n\n2\na cat\n\n3\na cat\n\n")
    assert {Path(str(film.path)), Path(str(text.path))} == set(tmp_path.iterdir())
    assert Path(str(film.path)).read_bytes() == film.data
    assert result.comments == ("A film of 3 pictures was made.",)
    assert len(result.images) == 3
