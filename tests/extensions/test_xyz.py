"""The script X/Y/Z plot: its axes and their values, the requests of its cells, and its grids."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.choices import Script
from webui.core.errors import InvalidRequest, WebuiError
from webui.core.pictures import encode_image
from webui.core.request import FromImage, GenerationRequest, GenerationResult, HiresFix
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.planning.script import make_script_plan

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "extensions" / "enlarge"
TITLE = "X/Y/Z plot"
STYLES = "name,prompt,negative_prompt\nink,ink drawing of {prompt},photo\nold,old,new\n"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    models = data / "models" / "Stable-diffusion"
    tiny_checkpoint(models)
    tiny_checkpoint(models / "sub", "other", seed=1)
    broken = models / "broken.safetensors"
    broken.write_bytes((models / "tiny.safetensors").read_bytes()[:50_000])
    (data / "models" / "VAE").mkdir(parents=True)
    (data / "models" / "VAE" / "soft.safetensors").write_bytes(b"")
    (data / "styles.csv").write_text(STYLES, encoding="utf-8")
    (data / "extensions").mkdir()
    (data / "extensions" / "enlarge").symlink_to(FIXTURE)
    with exact_engine(data) as engine:
        assert engine.host.problems == ()
        yield engine


def plot(engine: Engine, **values: Any) -> dict[str, Any]:
    """The request's fields that choose the script. values: its parameters."""
    params = next(item.params for item in engine.choices.all(Script) if item.title == TITLE)
    assert params is not None
    return {"script": TITLE, "extensions": {params.__name__: params.checked(**{"x_type": "Nothing", **values})}}


def request(**values: Any) -> GenerationRequest:
    small = {"prompt": "a red cat", "steps": 2, "width": 64, "height": 64, "seed": 7, "sampler": "Euler"}
    return GenerationRequest(**{**small, "save_samples": False, "save_grid": False, **values})


def cells(engine: Engine, values: dict[str, Any], **others: Any) -> Sequence[GenerationRequest]:
    """The requests as they wait. values: of the script. others: of the request."""
    return make_script_plan(request(**plot(engine, **values), **others), engine.planner).requests


def along(engine: Engine, label: str, values: str, **others: Any) -> Sequence[GenerationRequest]:
    return cells(engine, {"x_type": label, "x_values": values}, **others)


def made(engine: Engine, values: dict[str, Any], job: JobContext | None = None, **others: Any) -> GenerationResult:
    return engine.generate(request(**plot(engine, **values), **others), job or JobContext.alone(engine=engine))


def picture() -> FromImage:
    return FromImage(images=(encode_image(Image.new("RGB", (64, 64), "teal"), "png", None),))


def sheet(result: GenerationResult, index: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.images[index].data)).convert("RGB"))


# Values


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("4,6", [4, 6]),
        (' 3 , , "5"', [3, 5]),
        ("1-3", [1, 2, 3]),
        ("1-7 (+3)", [1, 4, 7]),
        ("1-6(2)", [1, 3, 5]),
        ("2-10 [3]", [2, 6, 10]),
        ("3-1", [3, 2, 1]),
        ("9-4 (-2), 1", [9, 7, 5, 1]),
    ],
)
def test_whole_numbers_are_listed_or_written_as_ranges(engine: Engine, text: str, steps: list[int]) -> None:
    assert [own.steps for own in along(engine, "Steps", text)] == steps


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        ("1-3", [1.0, 2.0, 3.0]),
        ("0.1-0.7 (+0.2)", [0.1, 0.3, 0.5, 0.7]),
        ("1-2 [3], 7", [1.0, 1.5, 2.0, 7.0]),
        ("-1.5", [-1.5]),
        ("-2--1 (+.5)", [-2.0, -1.5, -1.0]),
        ("1e1", [10.0]),
    ],
)
def test_numbers_are_listed_or_written_as_ranges(engine: Engine, text: str, scales: list[float]) -> None:
    found = [own.cfg_scale for own in along(engine, "CFG Scale", text)]
    assert found == scales
    assert {type(scale) for scale in found} == {float}  # which their texts tell as 1.0


@pytest.mark.parametrize(
    ("label", "text", "said"),
    [
        ("Steps", "4,many", 'X values of Steps: "many" is no whole number'),
        ("Steps", "1.5", '"1.5" is no whole number'),
        ("Steps", "0", 'X values of Steps, "0": Sampling steps'),
        ("Steps", "1-9 (-1)", "never gets from 1 to 9"),
        ("Steps", "1-9 (+0)", "never gets from 1 to 9"),
        ("Steps", "1-9 [0]", "has no values"),
        ("Steps", "1-999999999", "more than 10000 values"),
        ("Steps", "", "X values of Steps are empty"),
        ("CFG Scale", "nan", '"nan" is no number'),
        ("Sampler", "Euler,Eulr", 'X values of Sampler, "Eulr": No sampler is called "Eulr"; the closest is "Euler"'),
        ("Schedule type", "Karas", 'the closest is "Karras"'),
        ("Checkpoint name", "tiny,none-such", 'X values of Checkpoint name, "none-such": No checkpoint matches'),
        ("VAE", "None,sofft", 'X values of VAE, "sofft": There is no VAE "sofft"'),
        ("Styles", "ink,inkk", 'there is no style "inkk"'),
        ("Prompt S/R", "dog,cat", 'neither the prompt nor the negative prompt has "dog"'),
        ("Prompt order", "red,dog", 'the prompt has no "dog"'),
        ("Prompt order", ",".join("abcdefgh"), "more orders than 10000"),
        ("Size", "64", "a size is written as 512x768"),
        ("Size", "64x7", "Height"),
        ("Face restore", "maybe", "it can be CodeFormer"),
        ("SGM noise multiplier", "perhaps", "neither True nor False"),
        ("Clip skip", "0", "whole number from 1 to 12"),
        ("UniPC Order", "0", "at least 1"),
        ("Hires steps", "3", "hires fix is off"),
        ("Denoising", "0.5", "hires fix is off"),
        ("Initial noise multiplier", "1", "no picture to start from"),
        ("[Hypertile] VAE Enabled", "perhaps", "neither True nor False"),
        ("Stepz", "1", 'No axis of txt2img is called "Stepz"'),
        ("Image CFG Scale", "1", "No axis of txt2img"),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(engine: Engine, label: str, text: str, said: str) -> None:
    with pytest.raises(WebuiError) as caught:
        cells(engine, {"x_type": label, "x_values": text, "csv_mode": True})
    assert said in str(caught.value)


def stem(title: str) -> str:
    """A checkpoint's name in its title."""
    return title.partition(".")[0]


EXAMPLES: dict[str, tuple[str, Callable[[GenerationRequest], Any], list[Any]]] = {
    "Seed": ("3,4", lambda own: own.seed, [3, 4]),
    "Var. seed": ("3,4", lambda own: own.variation.seed, [3, 4]),
    "Var. strength": ("0,0.5", lambda own: own.variation.strength, [0, 0.5]),
    "Steps": ("1,2", lambda own: own.steps, [1, 2]),
    "Hires steps": ("1,2", lambda own: own.hires.steps, [1, 2]),  # type: ignore[union-attr]
    "CFG Scale": ("1,2.5", lambda own: own.cfg_scale, [1, 2.5]),
    "Image CFG Scale": ("1,2", lambda own: own.image.image_cfg_scale, [1, 2]),  # type: ignore[union-attr]
    "Prompt S/R": ('red,"blue, big",', lambda own: own.prompt, ["a red cat", "a blue, big cat", "a  cat"]),
    "Prompt order": ("red,cat", lambda own: own.prompt, ["a red cat", "a cat red"]),
    "Sampler": ("Euler,k_lms", lambda own: own.sampler, ["Euler", "k_lms"]),
    "Hires sampler": ("Euler,LMS", lambda own: own.hires.sampler, ["Euler", "LMS"]),  # type: ignore[union-attr]
    "Checkpoint name": (
        "other,tiny",
        lambda own: own.overrides["sd_model_checkpoint"].split(".")[0],
        ["sub/other", "tiny"],
    ),
    "Negative Guidance minimum sigma": ("0,1", lambda own: own.sampler_options.s_min_uncond, [0, 1]),
    "Sigma Churn": ("0,1", lambda own: own.sampler_options.s_churn, [0, 1]),
    "Sigma min": ("0,1", lambda own: own.sampler_options.s_tmin, [0, 1]),
    "Sigma max": ("0,1", lambda own: own.sampler_options.s_tmax, [0, 1]),
    "Sigma noise": ("0,1", lambda own: own.sampler_options.s_noise, [0, 1]),
    "Schedule type": ("Karras,Uniform", lambda own: own.scheduler, ["Karras", "Uniform"]),
    "Schedule min sigma": ("0,1", lambda own: own.overrides["sigma_min"], [0, 1]),
    "Schedule max sigma": ("0,9", lambda own: own.overrides["sigma_max"], [0, 9]),
    "Schedule rho": ("0,7", lambda own: own.overrides["rho"], [0, 7]),
    "Beta schedule alpha": ("0.5,1", lambda own: own.overrides["beta_dist_alpha"], [0.5, 1]),
    "Beta schedule beta": ("0.5,1", lambda own: own.overrides["beta_dist_beta"], [0.5, 1]),
    "Eta": ("0,1", lambda own: own.sampler_options.eta, [0, 1]),
    "Clip skip": ("1,2", lambda own: own.overrides["CLIP_stop_at_last_layers"], [1, 2]),
    "Denoising": ("0.2,0.4", lambda own: (own.hires or own.image).denoising_strength, [0.2, 0.4]),  # type: ignore[union-attr]
    "Initial noise multiplier": ("1,1.1", lambda own: own.image.noise_multiplier, [1, 1.1]),  # type: ignore[union-attr]
    "Extra noise": ("0,0.1", lambda own: own.overrides["img2img_extra_noise"], [0, 0.1]),
    "Hires upscaler": ("Lanczos,Latent", lambda own: own.hires.upscaler, ["Lanczos", "Latent"]),  # type: ignore[union-attr]
    "Cond. Image Mask Weight": ("0,1", lambda own: own.overrides["inpainting_mask_weight"], [0, 1]),
    "VAE": ("none,soft", lambda own: own.overrides["sd_vae"], ["None", "soft.safetensors"]),
    "Styles": ('ink,"ink,old"', lambda own: own.styles, [("ink",), ("ink", "old")]),
    "UniPC Order": ("1,9", lambda own: own.overrides["uni_pc_order"], [1, 1]),  # less than the steps
    "Face restore": ("gfpgan,false", lambda own: own.restore_faces, [True, False]),
    "Token merging ratio": ("0,0.5", lambda own: own.overrides["token_merging_ratio"], [0, 0.5]),
    "Token merging ratio high-res": ("0,0.5", lambda own: own.overrides["token_merging_ratio_hr"], [0, 0.5]),
    "Always discard next-to-last sigma": (
        "False,yes",
        lambda own: own.overrides["always_discard_next_to_last_sigma"],
        [False, True],
    ),
    "SGM noise multiplier": ("True,False", lambda own: own.overrides["sgm_noise_multiplier"], [True, False]),
    "Refiner checkpoint": ("None,other", lambda own: stem(own.refiner.checkpoint), ["None", "sub/other"]),  # type: ignore[union-attr]
    "Refiner switch at": ("0.5,0.8", lambda own: own.refiner.switch_at, [0.5, 0.8]),  # type: ignore[union-attr]
    "RNG source": ("CPU,NV", lambda own: own.overrides["randn_source"], ["CPU", "NV"]),
    "FP8 mode": ("Disable,Enable", lambda own: own.overrides["fp8_storage"], ["Disable", "Enable"]),
    "Size": ("64x72,128X64", lambda own: (own.width, own.height), [(64, 72), (128, 64)]),
    "Frame of mind": ("happy,sad", lambda own: own.prompt, ["happy a red cat", "sad a red cat"]),
}
"""What each axis does, with values that it can have."""


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_every_axis_that_is_offered_varies_its_parameter(engine: Engine, tab: str) -> None:
    base = {"hires": HiresFix()} if tab == "txt2img" else {"image": picture()}
    types = types_on(engine, tab)
    assert not {*types[: types.index("Size") + 1]} - {*EXAMPLES, "Nothing"}  # after it come those of extensions
    for label in [label for label in types if label in EXAMPLES]:
        if label == "Initial noise multiplier" and tab == "txt2img":  # as in A1111's list; told above
            continue
        values, read, expected = EXAMPLES[label]
        # The dearest axis is the outer loop, and X is the only one: the order is that of the values.
        assert [read(own) for own in cells(engine, {"x_type": label, "x_values": values}, **base)] == expected, label
    assert {label for one in ("txt2img", "img2img") for label in types_on(engine, one)} >= set(EXAMPLES)


def types_on(engine: Engine, tab: str) -> tuple[str, ...]:
    script = engine.choices.find_script(TITLE, tab)
    assert script.choices_on is not None
    offered = script.choices_on(tab, "x_type")
    assert offered is not None
    assert script.choices_on(tab, "margin_size") is None
    return tuple(offered)


@pytest.mark.parity
def test_axes_have_the_numbers_of_the_original(engine: Engine, parity: Path) -> None:
    for script in json.loads((parity / "api" / "script-info.json").read_text()):
        if script["name"] == TITLE.lower():
            tab = "img2img" if script["is_img2img"] else "txt2img"
            recorded = tuple(script["args"][0]["choices"])
            assert types_on(engine, tab)[: len(recorded)] == recorded
            assert types_on(engine, tab).index("Frame of mind") >= len(recorded)
    assert [own.steps for own in cells(engine, {"x_type": 4, "x_values": "3,5"})] == [3, 5]
    assert [own.cfg_scale for own in cells(engine, {"x_type": 5, "x_values": "3"}, image=picture())] == [3]
    most = len(types_on(engine, "txt2img")) - 1
    with pytest.raises(InvalidRequest, match=f"X type can be a number from 0 to {most}, got 999"):
        cells(engine, {"x_type": 999, "x_values": "3"})


def test_an_axis_with_choices_takes_the_list_and_else_the_text(engine: Engine) -> None:
    both = {"x_type": "Sampler", "x_values": "LMS", "x_values_dropdown": ["Euler", "Heun"]}
    assert [own.sampler for own in cells(engine, both)] == ["Euler", "Heun"]
    assert [own.sampler for own in cells(engine, {**both, "csv_mode": True})] == ["LMS"]
    assert [own.sampler for own in cells(engine, {**both, "x_values_dropdown": []})] == ["LMS"]
    assert [own.steps for own in cells(engine, {"x_type": "steps", "x_values_dropdown": [3, "5"]})] == [3, 5]


# Cells


def test_the_dearest_axis_is_the_outer_loop(engine: Engine) -> None:
    values = {"x_type": "Checkpoint name", "x_values": "tiny,other", "y_type": "Steps", "y_values": "1,2"}
    found = cells(engine, {**values, "z_type": "VAE", "z_values": "None,Automatic"})
    assert [(stem(own.overrides["sd_model_checkpoint"]), own.overrides["sd_vae"], own.steps) for own in found] == [
        (model, vae, steps) for model in ("tiny", "sub/other") for vae in ("None", "Automatic") for steps in (1, 2)
    ]


def test_seeds_are_one_for_all_kept_random_or_varied(engine: Engine) -> None:
    lines = {"x_type": "Steps", "x_values": "1,2", "y_type": "CFG Scale", "y_values": "1-3"}
    lines |= {"z_type": "Prompt S/R", "z_values": "red,blue"}
    (seed,) = {own.seed for own in cells(engine, lines, seed=-1)}
    assert seed != -1
    assert len({own.seed for own in cells(engine, {**lines, "no_fixed_seeds": True}, seed=-1)}) == 12
    assert [own.seed for own in cells(engine, {**lines, "vary_seeds_x": True})] == [7, 8] * 6
    all_three = {"vary_seeds_x": True, "vary_seeds_y": True, "vary_seeds_z": True}
    assert [own.seed for own in cells(engine, {**lines, **all_three})] == list(range(7, 19))
    assert [own.seed for own in cells(engine, {**lines, "vary_seeds_x": True, "vary_seeds_z": True})] == [
        *[7, 8] * 3,
        *[9, 10] * 3,
    ]


def test_random_values_of_a_seed_axis_are_drawn_once_each(engine: Engine) -> None:
    lines = {"x_type": "Seed", "x_values": "-1,-1,5", "y_type": "Steps", "y_values": "1,2"}
    found = [own.seed for own in cells(engine, lines)]
    assert found[:3] == found[3:]
    assert (len(set(found)), found[2], -1 in found) == (3, 5, False)
    assert len({own.seed for own in cells(engine, {**lines, "no_fixed_seeds": True})}) == 5
    lines = {"x_type": "Var. strength", "x_values": "0,0.1,0.2"}
    none, *others = (own.variation.seed for own in cells(engine, lines))
    assert none == -1  # which a picture without variation has no use for
    assert len(set(others)) == 1
    assert -1 not in others


def test_more_than_a_grid_has_room_for_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="2 megapixels; 1 are too many already"):
        cells(engine, {"x_type": "Steps", "x_values": "1-2"}, width=1000, height=1000, overrides={"img_max_size_mp": 1})
    with pytest.raises(InvalidRequest, match="megapixels"):
        along(engine, "Size", "64x64,16000x16000")
    with pytest.raises(InvalidRequest, match="The plot would have 40000 cells"):
        cells(engine, {"x_type": "Seed", "x_values": "1-200", "y_type": "CFG Scale", "y_values": "1-200"})


def test_a_font_that_cannot_be_read_is_told_at_once(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="The font .*none.ttf.* can't be read"):
        along(engine, "Steps", "1,2", overrides={"font": str(tmp_path / "none.ttf")})


# Grids


def test_grids_and_cells_come_in_the_order_of_the_original_and_are_saved_as_the_settings_say(engine: Engine) -> None:
    values = {"x_type": "Steps", "x_values": "1,2", "y_type": "Seed", "y_values": "3,-1", "z_type": "Sampler"}
    values |= {"z_values_dropdown": ["Euler", "LMS"], "include_lone_images": True, "include_sub_grids": True}
    result = made(engine, {**values, "draw_legend": False}, save_grid=True, overrides={"return_grid": False})
    assert [(image.width, image.height) for image in result.images] == [(256, 128), *[(128, 128)] * 2, *[(64, 64)] * 8]
    assert (sheet(result)[:, :128] == sheet(result, 1)).all()
    assert (sheet(result, 2)[:64, 64:] == sheet(result, 8)).all()  # LMS, first seed, two steps
    drawn = result.info["all_seeds"][4]
    assert result.info["all_seeds"] == [3, 3, *[3, 3, drawn, drawn] * 2]
    assert [Path(image.path or "").name[:9] for image in result.images if image.is_grid] == ["xyz_grid-"] * 3
    whole, first, second, cell, *_ = result.info["infotexts"]
    plotted = 'Script: X/Y/Z plot, X Type: Steps, X Values: "1,2", Y Type: Seed, Y Values: "3,-1", '
    plotted += f'Fixed Y Values: "3, {drawn}"'
    assert whole == cell.replace(", Version", f', {plotted}, Z Type: Sampler, Z Values: "Euler,LMS", Version')
    assert first == cell.replace(", Version", f", {plotted}, Version")
    assert "Sampler: LMS" in second
    assert result.images[0].infotext == whole
    assert result.index_of_first_image == result.info["index_of_first_image"] == 1


def test_a_grids_text_is_read_as_the_plot(engine: Engine) -> None:
    params = engine.choices.find_script(TITLE, "txt2img").params
    assert params is not None
    told = {"Script": TITLE, "X Type": "Sampler", "X Values": "Euler,LMS", "Z Type": "Size", "Z Values-1": "64"}
    told |= {"Z Values-2": "72", "Fixed Y Values": "1, 2"}
    found = params.from_infotext(told)
    assert (found["x_type"], found["y_type"], found["z_type"]) == ("Sampler", "Nothing", "Size")
    assert (found["x_values"], found["x_values_dropdown"], found["z_values"]) == (
        "Euler,LMS",
        ("Euler", "LMS"),
        "64x72",
    )
    assert all(params.reads_key(key.removesuffix("-1").removesuffix("-2")) for key in told)
    assert params.from_infotext({"Steps": "4"}) == {}


def test_only_the_grid_is_shown_and_saved_unless_more_is_wished(engine: Engine) -> None:
    values = {"x_type": "Steps", "x_values": "1,2", "z_type": "CFG Scale", "z_values": "1,2"}
    before = saved_grids(engine)
    result = made(engine, {**values, "margin_size": 10}, save_grid=True)
    assert [image.is_grid for image in result.images] == [True]
    assert len(saved_grids(engine)) == len(before) + 1
    assert len(result.info["infotexts"]) == 1 + 4
    assert result.images[0].width == 2 * (2 * 64 + 10)
    told = made(engine, {**values, "margin_size": 10, "draw_legend": False})
    assert told.images[0].width == 4 * 64
    assert told.comments == ("Grid margins have no effect without the legend, as in A1111.",)


def saved_grids(engine: Engine) -> set[Path]:
    return set((engine.paths.outputs / "txt2img-grids").rglob("xyz_grid-*"))


def test_a_cell_that_fails_is_black_and_told_and_loses_no_other(engine: Engine) -> None:
    values = {"x_type": "Checkpoint name", "x_values": "broken,tiny", "y_type": "Steps", "y_values": "1,2"}
    result = made(engine, {**values, "include_lone_images": True, "draw_legend": False})
    grid, *pictures = result.images
    assert (grid.width, grid.height, len(pictures)) == (128, 128, 2)
    assert (sheet(result)[:, :64] == 0).all()
    assert (sheet(result)[64:, 64:] == sheet(result, 2)).all()
    assert len(result.comments) == 2
    assert all(comment.startswith("broken, Steps: ") for comment in result.comments)


def test_where_every_cell_fails_the_job_fails(engine: Engine) -> None:
    with pytest.raises(WebuiError, match="broken"):
        made(engine, {"x_type": "Checkpoint name", "x_values": "broken,broken"})


class StoppedAfterTwo(JobContext):
    """A job that is interrupted when it has made two pictures."""

    def child(self, share: float) -> JobContext:
        part = super().child(share)
        return type(self)(part._record, part._surroundings, part._start, part._share, part.settings)

    @property
    def interrupted(self) -> bool:
        return self.progress.job_no >= 2


def test_an_interrupted_plot_shows_what_there_is(engine: Engine) -> None:
    values = {"x_type": "Steps", "x_values": "1,2,3", "draw_legend": False, "include_lone_images": True}
    result = made(engine, values, StoppedAfterTwo.alone(engine=engine))
    assert [image.width for image in result.images] == [192, 64, 64]
    assert (sheet(result)[:, 128:] == 0).all()
    assert (sheet(result)[:, 64:128] == sheet(result, 2)).all()
    assert result.comments == ("The plot was stopped after 2 of 3 cells; the others are black.",)


def test_a_cell_shows_the_grid_of_its_batch(engine: Engine) -> None:
    values = {"x_type": "Steps", "x_values": "1,2", "draw_legend": False, "include_lone_images": True}
    result = made(engine, values, batch_size=2, save_grid=True)
    assert [image.width for image in result.images] == [256, 128, 128]
    assert len(cells(engine, values, batch_size=2, overrides={"return_grid": False})) == 2
    single = made(engine, values, batch_size=2, overrides={"return_grid": False})
    assert [image.width for image in single.images] == [128, 64, 64]
    assert single.comments == ("Each cell has one batch's first picture, as grids of batches aren't shown by setting.",)


def test_cells_of_different_sizes_stand_in_the_middle_of_their_places(engine: Engine) -> None:
    result = made(engine, {"x_type": "Size", "x_values": "64x64,128x96", "draw_legend": False})
    assert (result.images[0].width, result.images[0].height) == (256, 96)
    assert (sheet(result)[0, 0] == 255).all()


def test_the_legend_is_in_the_colours_and_the_font_of_the_settings(engine: Engine) -> None:
    values = {"x_type": "Prompt S/R", "x_values": "red,a_word_that_is_long"}
    usual = made(engine, values)
    assert sheet(usual)[: sheet(usual).shape[0] - 64].min() < 100
    red = made(engine, values, overrides={"grid_text_active_color": "#ff0000", "grid_background_color": "#ffff00"})
    top = sheet(red)[: sheet(red).shape[0] - 64]
    assert (top[..., 0] == 255).all()
    assert top[..., 1].min() < 100
    assert (top[..., 2] == 0).all()
