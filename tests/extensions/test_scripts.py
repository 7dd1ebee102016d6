"""Scripts: one request becomes many within one job, ours and those of extensions."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.describers import small_deepbooru
from tests.engines import exact_engine
from tests.tiny import tiny_checkpoint
from webui.core.choices import Script
from webui.core.errors import InvalidRequest, WebuiError
from webui.core.grids import Legend, make_grid, with_legends
from webui.core.hooks import Step
from webui.core.params import Params
from webui.core.pictures import encode_image
from webui.core.request import FromImage, GenerationRequest, GenerationResult, Inpaint
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.planning.script import make_script_plan

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "extensions" / "steps-script"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    small_deepbooru(data / "models" / "torch_deepdanbooru" / "model-resnet_custom_v3.pt")
    (data / "extensions").mkdir()
    (data / "extensions" / "steps-script").symlink_to(FIXTURE)
    with exact_engine(data) as engine:
        assert engine.host.problems == ()
        yield engine


def group(engine: Engine, script: str, **values: Any) -> dict[str, Any]:
    """The request's fields that choose a script."""
    params = next(item.params for item in engine.choices.all(Script) if item.title == script)
    assert params is not None
    return {"script": script, "extensions": {params.__name__: params.checked(**values)}}


def request(**values: Any) -> GenerationRequest:
    small = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 7, "sampler": "Euler"}
    return GenerationRequest(**{**small, "save_samples": False, "save_grid": False, **values})


def made(engine: Engine, job: JobContext | None = None, **values: Any) -> GenerationResult:
    return engine.generate(request(**values), job or JobContext.alone(engine=engine))


def expanded(engine: Engine, script: str, values: dict[str, Any], **others: Any) -> Sequence[GenerationRequest]:
    return make_script_plan(request(**group(engine, script, **values), **others), engine.planner).requests


def pixels(result: GenerationResult, index: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.images[index].data)), dtype=np.int16)


# The seam


def test_an_extensions_script_runs_each_of_its_requests(engine: Engine) -> None:
    job = JobContext.alone(engine=engine)
    result = made(engine, job, **group(engine, "Steps", most=3))
    assert [f"Steps: {steps}," in image.infotext for steps, image in enumerate(result.images, start=1)] == [True] * 3
    assert result.info["all_seeds"] == [7, 7, 7]
    assert len(result.info["infotexts"]) == 3
    assert (job.progress.job_no, job.progress.job_count) == (3, 3)
    assert (pixels(result, 1) == pixels(made(engine))).all()


def test_what_a_script_cannot_do_is_told_before_it_is_queued(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="Script 'stepz' not found; the closest is \"steps\""):
        make_script_plan(request(script="Stepz"), engine.planner)
    with pytest.raises(InvalidRequest, match="Script 'loopback' not found"):
        make_script_plan(request(script="Loopback"), engine.planner)  # of img2img alone
    with pytest.raises(InvalidRequest, match="No sampler is called"):
        make_script_plan(request(**group(engine, "Steps", sampler="Eulr")), engine.planner)
    with pytest.raises(WebuiError, match='Extension "steps-script" failed: ZeroDivisionError'):
        make_script_plan(request(**group(engine, "Steps", broken=True)), engine.planner)


def test_a_script_either_expands_or_runs() -> None:
    for functions in ({}, {"expand": list, "run": lambda request, job: None}):
        with pytest.raises(ValueError, match="expand or run"):
            Script("Both", **functions)  # type: ignore[arg-type]


def test_element_ids_are_those_of_the_original() -> None:
    both = Script("Prompts from file or textbox", expand=lambda request, settings: [])
    assert both.elem_id("txt2img", "file") == "script_txt2img_prompts_from_file_or_textbox_file"
    one = Script("Poor man's outpainting", expand=lambda request, settings: [], tabs=["img2img"])
    assert one.elem_id("img2img", "pixels") == "script_poor_mans_outpainting_pixels"


# Prompt matrix


MATRIX = "Prompt matrix"


@pytest.mark.parametrize(
    ("values", "prompts"),
    [
        ({}, ["a cat", "a cat, red", "a cat, big, old", "a cat, red, big, old"]),
        ({"put_at_start": True}, ["a cat", "red, a cat", "big, old, a cat", "red, big, old, a cat"]),
        ({"variations_delimiter": "space"}, ["a cat", "a cat red", "a cat big, old", "a cat red big, old"]),
    ],
)
def test_every_combination_of_the_parts_has_a_prompt(
    engine: Engine, values: dict[str, Any], prompts: list[str]
) -> None:
    found = expanded(engine, MATRIX, values, prompt="a cat| red,|big, old ")
    assert [own.prompt for own in found] == prompts
    assert {own.seed for own in found} == {7}


def test_parts_of_the_negative_prompt_and_seeds_of_their_own(engine: Engine) -> None:
    values = {"prompt_type": "negative", "different_seeds": True}
    found = expanded(engine, MATRIX, values, prompt="a|b", negative_prompt="blurry|ugly", batch_size=4)
    assert [(own.prompt, own.negative_prompt, own.seed, own.batch_size) for own in found] == [
        ("a|b", "blurry", 7, 1),
        ("a|b", "blurry, ugly", 8, 1),
    ]


def test_a_random_seed_is_drawn_once_for_the_whole_matrix(engine: Engine) -> None:
    found = expanded(engine, MATRIX, {}, prompt="a|b|c", seed=-1)
    assert len({own.seed for own in found}) == 1
    assert found[0].seed != -1


def test_too_many_parts_are_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="13 variable parts make 8192 pictures"):
        expanded(engine, MATRIX, {}, prompt="a" + "|b" * 13)


def test_the_matrix_has_a_grid_in_front_and_is_saved_under_its_name(engine: Engine) -> None:
    asked = {"prompt": "a cat|red|big", "save_grid": True, "batch_count": 2}
    result = made(engine, **group(engine, MATRIX, margin_size=4), **asked)
    grid, *pictures = result.images
    assert (grid.is_grid, len(pictures), result.info["index_of_first_image"]) == (True, 4, 1)
    assert grid.width == 48 + 2 * 64 + 4
    assert Path(grid.path or "").name.startswith("prompt_matrix-0000")
    assert grid.infotext == pictures[0].infotext
    assert result.comments == (
        "Prompt matrix makes one picture of each combination, whatever the batch count and size.",
    )
    assert result.pictures == ()


def test_a_grid_that_cannot_be_made_loses_no_picture(engine: Engine) -> None:
    broken = {"font": "/none/such.ttf"}
    result = made(engine, **group(engine, MATRIX), prompt="a cat|red", overrides=broken)
    assert [image.is_grid for image in result.images] == [False, False]
    assert [comment[:28] for comment in result.comments] == ['The font "/none/such.ttf" ca']


def test_an_interrupted_matrix_hands_back_what_is_there(engine: Engine) -> None:
    result = made(engine, Stopping.alone(engine=engine), prompt="a cat|red|big", **group(engine, MATRIX))
    assert [image.is_grid for image in result.images] == [False]


class Stopping(JobContext):
    """A job that is interrupted at its second step."""

    def child(self, share: float) -> JobContext:
        part = super().child(share)
        return type(self)(part._record, part._surroundings, part._start, part._share, part.settings)

    def steps(self, steps: Sequence[Step]) -> Iterator[Step]:
        for step in super().steps(steps):
            if step.index == 1:
                self._publish(interrupted=True)
            yield step


def test_words_that_are_not_in_a_cell_are_struck_out() -> None:
    cells = make_grid([Image.new("RGB", (200, 200), "blue")] * 2, 1, "#ffffff")
    columns = [[Legend("on")], [Legend("off", active=False)]]
    sheet = with_legends(cells, columns, [[]])
    assert sheet.width == 400
    top = sheet.height - 200
    left, right = (np.asarray(sheet.crop((x, 0, x + 200, top)).convert("L")) for x in (0, 200))
    assert left.min() < 80  # black on white
    assert 130 < right.min() < 180  # grey, and a line through
    assert (right < 180).all(axis=0).sum() == 0
    assert with_legends(cells, [[], []], [[]]).size == cells.size


# Prompts from file or textbox


FILE = "Prompts from file or textbox"


def lines(engine: Engine, text: str, **values: Any) -> Sequence[GenerationRequest]:
    options = {name: values.pop(name) for name in list(values) if name.startswith(("checkbox", "prompt_position"))}
    return expanded(engine, FILE, {"prompt_txt": text, **options}, **values)


def test_each_line_is_a_request(engine: Engine) -> None:
    first, second = lines(engine, "a dog\n\n  a house  \r\n", prompt="", batch_count=3)
    assert (first.prompt, second.prompt, first.batch_count) == ("a dog", "a house", 3)
    at_end = lines(engine, "red", prompt_position="end")
    assert at_end[0].prompt == "a cat red"


def test_a_line_may_name_parameters_of_its_own(engine: Engine) -> None:
    text = (
        '--prompt "a dog" --negative_prompt ugly thing --seed 5 --subseed 3 --subseed_strength 0.5 --steps 4 '
        "--cfg_scale 3.5 --width 128 --height 72 --sampler_name DDIM --batch_size 2 --n_iter 3 --tiling true "
        "--do_not_save_samples False --sd_model tiny --styles 'a, b'"
    )
    (own,) = lines(engine, text, negative_prompt="blurry")
    assert (own.prompt, own.negative_prompt) == ("a dog a cat", "ugly thing blurry")
    assert (own.seed, own.variation.seed, own.variation.strength) == (5, 3, 0.5)
    assert (own.steps, own.cfg_scale, own.width, own.height, own.sampler) == (4, 3.5, 128, 72, "DDIM")
    assert (own.batch_size, own.batch_count, own.tiling, own.save_samples) == (2, 3, True, True)
    assert own.overrides == {"sd_model_checkpoint": "tiny"}
    assert own.styles == ("a", "b")


def test_what_a_line_asks_for_without_effect_is_told(engine: Engine) -> None:
    (own,) = lines(engine, "--prompt a --outpath_samples /tmp/elsewhere --prompt_for_display b c")
    assert [remark.partition(" has no effect")[0] for remark in own.remarks] == [
        "Line 1 of the prompts: --outpath_samples",
        "Line 1 of the prompts: --prompt_for_display",
    ]
    assert own.overrides == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "List of prompt inputs is empty"),
        ("a\n--stepz 4", 'Line 2 of the prompts has "--stepz"'),
        ('--prompt "open', "Line 1 of the prompts can't be read: No closing quotation"),
        ("--steps", "ends with --steps"),
        ("--steps many", '--steps can\'t be "many"'),
        ("--tiling maybe", '--tiling can\'t be "maybe"'),
        ("--steps 0", "Sampling steps"),
        ("--sampler_name Eulr", 'No sampler is called "Eulr"; the closest is "Euler"'),
        ("--sd_model none-such", "none-such"),
    ],
)
def test_a_mistake_in_a_line_is_told_with_its_number(engine: Engine, text: str, said: str) -> None:
    with pytest.raises(WebuiError, match=said):
        lines(engine, text)


def test_seeds_of_lines(engine: Engine) -> None:
    text = "a\nb\n--prompt c --seed 3\nd"
    assert [own.seed for own in lines(engine, text)] == [7, 7, 3, 7]
    iterated = lines(engine, text, checkbox_iterate=True, batch_count=2, batch_size=3)
    assert [own.seed for own in iterated] == [7, 13, 3, 25]
    each = {own.seed for own in lines(engine, "a\nb\nc", seed=-1)}
    assert len(each) == 3
    shared = {own.seed for own in lines(engine, "a\nb\nc", seed=-1, checkbox_iterate_batch=True)}
    assert len(shared) == 1
    assert -1 not in each | shared


# Loopback


LOOPBACK = "Loopback"


def png(image: Image.Image) -> bytes:
    return encode_image(image, "png", None)


def picture() -> Image.Image:
    """Smooth random colours."""
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)


def mask() -> bytes:
    image = Image.new("L", (64, 64))
    image.paste(255, (32, 0, 64, 64))
    return png(image)


def start(**values: Any) -> FromImage:
    return FromImage(**{"images": (png(picture()),), "denoising_strength": 0.6, **values})


def test_a_loop_begins_with_the_picture_before_it_a_seed_higher(engine: Engine) -> None:
    asked = {"image": start(), "steps": 3, "overrides": {"samples_format": "jpg"}}
    whole = made(engine, **group(engine, LOOPBACK, loops=3, final_denoising_strength=0.2), **asked)
    grid, *pictures = whole.images
    assert (grid.width, grid.height, grid.is_grid) == (192, 64, True)
    assert whole.info["all_seeds"] == [7, 8, 9]
    for value, image in zip((0.6, 0.4, 0.2), pictures, strict=True):
        assert f"Denoising strength: {value}, Final denoising strength: 0.2, Denoising curve: Linear" in image.infotext


def test_the_next_loop_begins_without_loss(engine: Engine) -> None:
    asked = {"image": start(), "steps": 3}
    chosen = group(engine, LOOPBACK, loops=2, final_denoising_strength=0.4)
    whole = made(engine, **chosen, **asked)
    second = made(engine, image=start(images=(whole.images[1].data,), denoising_strength=0.4), seed=8, steps=3)
    assert (pixels(second) == pixels(whole, 2)).all()
    as_jpg = made(engine, **chosen, **asked, overrides={"samples_format": "jpg"})
    file = io.BytesIO()
    Image.open(io.BytesIO(whole.images[2].data)).save(file, "JPEG", quality=80)
    assert np.abs(pixels(as_jpg, 2) - np.asarray(Image.open(file), dtype=np.int16)).mean() < 0.5


@pytest.mark.parametrize("prompt", ["a cat", ""])
def test_each_loop_adds_what_is_seen_in_the_picture_it_begins_with(engine: Engine, prompt: str) -> None:
    chosen = group(engine, LOOPBACK, loops=2, append_interrogation="DeepBooru")
    overrides = {"interrogate_deepbooru_score_threshold": 0.0}
    result = made(engine, **chosen, image=start(), prompt=prompt, steps=3, overrides=overrides)
    _, first, second = result.images
    job = JobContext.alone(engine=engine).with_settings(engine.settings.snapshot().replace(**overrides))
    for image, begun_with in ((first, picture()), (second, Image.open(io.BytesIO(first.data)))):
        seen = job.describe(begun_with, "deepbooru")
        assert seen
        assert image.infotext.partition("\n")[0] == (f"{prompt}, {seen}" if prompt else seen)


def test_a_loop_that_cannot_see_says_what_is_missing(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="BLIP"):
        made(engine, **group(engine, LOOPBACK, loops=2, append_interrogation="CLIP"), image=start())


def test_several_batches_of_loops_hand_back_the_last_of_each(engine: Engine) -> None:
    inpaint = Inpaint(mask=mask(), blur_x=0, blur_y=0, fill=2)
    job = JobContext.alone(engine=engine)
    overrides = {"return_grid": False, "img2img_color_correction": True}
    asked = {"image": start(inpaint=inpaint), "batch_count": 2, "overrides": overrides}
    whole = made(engine, job, **group(engine, LOOPBACK, loops=2, denoising_curve="Lazy"), **asked)
    assert whole.info["all_seeds"] == [8, 10]
    assert (job.progress.job_no, job.progress.job_count) == (4, 4)
    for index in range(2):
        assert (pixels(whole, index)[:, :32] == np.asarray(picture())[:, :32]).all()


def test_interrupted_loops_hand_back_what_is_there(engine: Engine) -> None:
    whole = made(engine, Stopping.alone(engine=engine), **group(engine, LOOPBACK, loops=3), image=start())
    assert len(whole.images) == 1


@pytest.mark.parametrize(
    ("curve", "strengths"),
    [("Linear", (0.8, 0.6, 0.4)), ("Aggressive", (0.8, 0.5172, 0.4)), ("Lazy", (0.8, 0.6828, 0.4))],
)
def test_curves(engine: Engine, curve: str, strengths: tuple[float, ...]) -> None:
    values: Any = group(engine, LOOPBACK, loops=3, final_denoising_strength=0.4, denoising_curve=curve)
    asked = values["extensions"]["Loopback"]
    assert [asked.strength(0.8, loop) for loop in range(3)] == pytest.approx(strengths, abs=1e-4)
    assert asked.replace(loops=1).strength(0.8, 0) == 0.8


def test_every_parameter_of_our_scripts_changes_what_is_made(engine: Engine) -> None:
    """The law that nothing is accepted and then ignored: each value but the default leads to other requests."""
    text = "--prompt x\ny"
    bases: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        MATRIX: ({}, {"prompt": "a|b|c", "negative_prompt": "d|e"}),
        FILE: ({"prompt_txt": text}, {"seed": -1}),
    }
    others = {
        "margin_size": None,
        "prompt_txt": "z",
        "prompt_type": "negative",
        "variations_delimiter": "space",
        "prompt_position": "end",
    }
    for title, (values, fields) in bases.items():
        params = next(item.params for item in engine.choices.all(Script) if item.title == title)
        assert params is not None
        assert issubclass(params, Params)
        usual = shape(expanded(engine, title, values, **fields))
        for spec in params.specs():
            other = others.get(spec.name, not spec.default)
            if other is None:  # the grid's, tested above
                continue
            assert shape(expanded(engine, title, {**values, spec.name: other}, **fields)) != usual, spec.name


def shape(requests: Sequence[GenerationRequest]) -> list[Any]:
    """What differs between requests whose seeds are drawn at random: prompts, and how the seeds relate."""
    first = requests[0].seed
    return [(own.prompt, own.negative_prompt, min(abs(own.seed - first), 9)) for own in requests]
