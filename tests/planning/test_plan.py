"""From request to plan: everything decided, nothing left to look up."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import tiny_checkpoint
from webui.catalog.checkpoints import CheckpointCatalog
from webui.catalog.hashes import HashCache
from webui.core.choices import Choices
from webui.core.errors import InvalidRequest, NotFound
from webui.core.request import FromImage, GenerationRequest, HiresFix, Refiner, SamplerOptions, Variation
from webui.core.settings import Settings
from webui.core.settings_table import SETTINGS
from webui.pipeline.infotext import image_infotext
from webui.planning.plan import GenerationPlan, make_plan, target_size
from webui.prompts.styles import StyleStore


def _encoded(image: Image.Image) -> bytes:
    image.save(data := io.BytesIO(), "PNG")
    return data.getvalue()


ONE_PIXEL = _encoded(Image.new("RGB", (1, 1)))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> CheckpointCatalog:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder, "one")
    tiny_checkpoint(folder, "two", seed=2)
    return CheckpointCatalog([folder], HashCache(folder / "hashes.sqlite"))


@pytest.fixture
def styles(tmp_path: Path) -> StyleStore:
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink drawing of {prompt},photo\n")
    return StyleStore((tmp_path / "styles.csv",))


def planned(checkpoints: CheckpointCatalog, store: StyleStore, /, **values: object) -> GenerationPlan:
    return make_plan(GenerationRequest(**values), Settings.defaults(SETTINGS), checkpoints, store, Choices())


def test_seeds_count_up_over_all_pictures(checkpoints: CheckpointCatalog, styles: StyleStore) -> None:
    plan = planned(checkpoints, styles, seed=10, batch_size=2, batch_count=2)
    assert plan.seeds == (10, 11, 12, 13)
    assert plan.batches == [range(2), range(2, 4)]


def test_a_batch_is_split_where_its_pictures_name_different_networks(
    checkpoints: CheckpointCatalog, styles: StyleStore
) -> None:
    plan = planned(checkpoints, styles, batch_size=3, batch_count=2)

    def batches(*tags: str, **changes: object) -> list[range]:
        prompts = tuple(f"picture {number} {tag}" for number, tag in enumerate(tags))
        request = plan.request.replace(**changes)
        return replace(plan, request=request, first=replace(plan.first, prompts=prompts)).batches

    one, two = "<lora:one:1>", "<lora:two:1>"
    assert batches("", "", "", one, one, one) == [range(3), range(3, 6)]
    assert batches(one, one, two, two, two, two) == [range(2), range(2, 3), range(3, 6)]
    assert batches(one, "", one, "", one, "") == [range(number, number + 1) for number in range(6)]
    assert batches(one, "<lora:one:0.5>", "", "", "", "") == [range(1), range(1, 2), range(2, 3), range(3, 6)]
    assert batches(one, two, "", "", "", "", disable_extra_networks=True) == plan.batches


def test_a_variation_keeps_the_seed_and_counts_the_subseed(checkpoints: CheckpointCatalog, styles: StyleStore) -> None:
    plan = planned(checkpoints, styles, seed=10, batch_size=3, variation=Variation(seed=5, strength=0.2))
    assert plan.seeds == (10, 10, 10)
    assert plan.subseeds == (5, 6, 7)


def test_a_seed_of_minus_one_is_drawn(checkpoints: CheckpointCatalog, styles: StyleStore) -> None:
    drawn = {planned(checkpoints, styles).seeds[0] for _ in range(5)}
    assert len(drawn) == 5
    assert all(0 <= seed < 4294967294 for seed in drawn)


def test_automatic_becomes_the_samplers_own_schedule(checkpoints: CheckpointCatalog, styles: StyleStore) -> None:
    assert planned(checkpoints, styles, sampler="DPM++ 2M").first.schedule.label == "Karras"
    assert planned(checkpoints, styles, sampler="Euler").first.schedule.label == "Automatic"
    plan = planned(checkpoints, styles, sampler="DPM++ 2M SDE Karras")
    assert (plan.first.sampler.name, plan.first.schedule.label) == ("DPM++ 2M SDE", "Karras")


def test_styles_and_comments_shape_the_prompts(checkpoints: CheckpointCatalog, styles: StyleStore) -> None:
    plan = planned(checkpoints, styles, prompt="a cat # not this", styles=("ink",), batch_size=2)
    assert plan.first.prompts == ("ink drawing of a cat ",) * 2
    assert plan.first.negative_prompts[0] == "photo"


def test_the_request_wins_over_settings_and_settings_over_defaults(
    checkpoints: CheckpointCatalog, styles: StyleStore
) -> None:
    overrides = {"eta_ancestral": 0.5, "CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "two"}
    plan = planned(checkpoints, styles, sampler="Euler a", overrides=overrides)
    assert plan.first.eta == 0.5
    assert plan.clip_skip == 2
    assert plan.first.checkpoint.model_name == "two"
    options = SamplerOptions(eta=0.25)
    assert planned(checkpoints, styles, overrides=overrides, sampler_options=options).first.eta == 0.25


def test_unknown_things_are_named(checkpoints: CheckpointCatalog, styles: StyleStore) -> None:
    with pytest.raises(NotFound, match="no such"):
        planned(checkpoints, styles, overrides={"sd_model_checkpoint": "no such"})
    with pytest.raises(NotFound, match="nowhere"):
        planned(checkpoints, styles, refiner=Refiner(checkpoint="nowhere"))
    with pytest.raises(InvalidRequest, match="Latnt.*Latent"):
        planned(checkpoints, styles, hires=HiresFix(upscaler="Latnt"))
    with pytest.raises(InvalidRequest, match="no_such_setting"):
        planned(checkpoints, styles, overrides={"no_such_setting": 1})


def test_the_second_pass_takes_over_what_it_is_not_told(checkpoints: CheckpointCatalog, styles: StyleStore) -> None:
    plan = planned(checkpoints, styles, prompt="a", steps=9, width=64, height=96, hires=HiresFix())
    assert plan.hires is not None
    second = plan.hires.sampling
    assert (second.width, second.height, second.steps, second.denoise) == (128, 192, 9, 0.7)
    assert second.prompts == plan.first.prompts
    assert second.checkpoint == plan.first.checkpoint
    hires = HiresFix(prompt="b", sampler="Euler a", steps=3, checkpoint="two")
    second = planned(checkpoints, styles, prompt="a", hires=hires).hires.sampling
    assert (second.prompts[0], second.sampler.name, second.steps, second.checkpoint.model_name) == (
        "b",
        "Euler a",
        3,
        "two",
    )


@pytest.mark.parametrize(
    ("hires", "expected"),
    [
        (HiresFix(scale=2), (128, 128, 128, 128)),
        (HiresFix(scale=1.33), (80, 80, 85, 85)),
        (HiresFix(resize_width=136), (136, 136, 136, 136)),
        (HiresFix(resize_height=96), (96, 96, 96, 96)),
        (HiresFix(resize_width=128, resize_height=72), (128, 72, 128, 128)),
    ],
)
def test_sizes_of_the_second_pass(hires: HiresFix, expected: tuple[int, ...]) -> None:
    assert target_size(hires, 64, 64) == expected


@pytest.mark.parametrize("strength", [5e-324, 1e-300, 1e-20, 1e-6])
def test_a_denoising_strength_that_no_schedule_could_hold_is_refused(
    checkpoints: CheckpointCatalog, styles: StyleStore, strength: float
) -> None:
    with pytest.raises(InvalidRequest, match="raise the denoising strength"):
        planned(checkpoints, styles, steps=20, hires=HiresFix(denoising_strength=strength))
    assert planned(checkpoints, styles, hires=HiresFix(denoising_strength=0)).hires


def test_a_second_pass_without_pixels_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="8 is the least"):
        target_size(HiresFix(scale=0.05), 64, 64)


@pytest.mark.parametrize(
    ("asked", "image", "ratios", "infotext"),
    [
        ({}, False, (0.0, 0.0), ""),
        ({"token_merging_ratio": 0.5}, False, (0.5, 0.5), "Token merging ratio: 0.5, Token merging ratio hr: 0.5"),
        ({"token_merging_ratio_hr": 0.3}, False, (0.0, 0.3), "Token merging ratio hr: 0.3"),
        ({"token_merging_ratio_img2img": 0.2}, False, (0.0, 0.0), ""),
        ({"token_merging_ratio_img2img": 0.2}, True, (0.2, 0.2), "Token merging ratio: 0.2"),
        ({"token_merging_ratio_img2img": 0.2, "token_merging_ratio": 0.4}, True, (0.4, 0.4), "ratio: 0.4"),
    ],
)
def test_token_merging_has_a_ratio_for_each_kind_of_pass(
    asked: dict[str, float],
    image: bool,
    ratios: tuple[float, float],
    infotext: str,
    checkpoints: CheckpointCatalog,
    styles: StyleStore,
) -> None:
    source = FromImage(images=(ONE_PIXEL,)) if image else None
    plan = planned(checkpoints, styles, hires=None if image else HiresFix(), image=source, overrides=asked)
    second = plan.hires.sampling if plan.hires else plan.first
    assert (plan.first.token_merging, second.token_merging) == ratios
    text = image_infotext(plan, 0, {})
    assert infotext in text
    assert ("Token merging" in text) == bool(infotext)


@pytest.mark.parametrize(
    ("asked", "first"), [((1024, 1024), (512, 512)), ((1920, 1080), (704, 384)), ((512, 768), (448, 640))]
)
def test_hires_fix_of_old_takes_the_size_for_the_second_pass(
    asked: tuple[int, int], first: tuple[int, int], checkpoints: CheckpointCatalog, styles: StyleStore
) -> None:
    overrides = {"use_old_hires_fix_width_height": True}
    plan = planned(checkpoints, styles, width=asked[0], height=asked[1], hires=HiresFix(scale=3.0), overrides=overrides)
    assert (plan.first.width, plan.first.height) == first
    assert plan.hires is not None
    assert (plan.hires.sampling.width, plan.hires.sampling.height) == asked
    assert f"Size: {first[0]}x{first[1]}" in image_infotext(plan, 0, {})
    assert f"Hires resize: {asked[0]}x{asked[1]}" in image_infotext(plan, 0, {})
    plain = planned(checkpoints, styles, width=asked[0], height=asked[1], overrides=overrides)
    assert (plain.first.width, plain.first.height) == asked
