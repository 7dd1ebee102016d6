from __future__ import annotations

import pytest

from tests.tiny import tiny_checkpoint
from webui.core.errors import InvalidRequest
from webui.services.forms import request_from_form
from webui.services.infotexts import form_from_infotext, last_infotext
from webui.services.services import Services

TEXT = (
    "a bird\nNegative prompt: cage\n"
    "Steps: 7, Sampler: Euler a, Schedule type: Karras, CFG scale: 4.5, Seed: 99, Size: 128x64, "
    "Variation seed: 3, Variation seed strength: 0.25, Seed resize from: 64x32, Denoising strength: 0.5, "
    "Clip skip: 2, Hires upscale: 1.5, Hires steps: 4, Hires upscaler: Lanczos, Version: v1.10.1"
)


def test_every_field_of_an_infotext_finds_its_place(services: Services) -> None:
    pasted = form_from_infotext(TEXT, services)
    assert pasted.left_out == ()
    made = request_from_form(pasted.form, services.settings.snapshot())
    assert (made.prompt, made.negative_prompt, made.sampler, made.scheduler) == ("a bird", "cage", "Euler a", "Karras")
    assert (made.steps, made.cfg_scale, made.seed, made.width, made.height) == (7, 4.5, 99, 128, 64)
    assert (made.variation.seed, made.variation.strength) == (3, 0.25)
    assert (made.variation.resize_from_width, made.variation.resize_from_height) == (64, 32)
    assert made.hires is not None
    assert (made.hires.scale, made.hires.steps, made.hires.upscaler) == (1.5, 4, "Lanczos")
    assert made.hires.denoising_strength == 0.5
    assert made.refiner is None
    assert made.overrides == {"CLIP_stop_at_last_layers": 2}


def test_what_an_infotext_does_not_tell_stays_out(services: Services) -> None:
    form = form_from_infotext("a bird", services).form
    assert form["prompt"] == "a bird"
    assert not {"steps", "sampler", "width", "seed"} & set(form)
    assert (form["hires"], form["refiner"], form["overrides"]) == (False, False, [])


def test_what_is_not_available_is_told(services: Services) -> None:
    text = "x\nSteps: 1, Sampler: Warp 9, CFG scale: seven, Seed: 1, Refiner: nowhere.safetensors"
    pasted = form_from_infotext(text, services)
    assert pasted.left_out == ("Sampler: Warp 9", "CFG scale: seven", "Refiner: nowhere.safetensors")
    assert pasted.form["steps"] == 1


def test_old_sampler_names_are_understood(services: Services) -> None:
    form = form_from_infotext("x\nSteps: 1, Sampler: k_euler_a, Seed: 1, Size: 8x8", services).form
    assert form["sampler"] == "Euler a"


def test_styles_are_taken_out_of_the_prompts(services: Services) -> None:
    form = form_from_infotext(
        "ink drawing of a fox\nNegative prompt: photo\nSteps: 1, Seed: 1, Size: 8x8", services
    ).form
    assert (form["prompt"], form["negative_prompt"], form["styles"]) == ("a fox", "", ["ink"])


def test_a_refiner_is_found_by_its_name(services: Services) -> None:
    tiny_checkpoint(services.paths.checkpoints[0], "second")
    services.checkpoints.refresh()
    form = form_from_infotext("x\nSteps: 1, Seed: 1, Size: 8x8, Refiner: second, Refiner switch at: 0.5", services).form
    assert form["refiner"] is True
    assert form["refiner.checkpoint"].startswith("second.safetensors")
    assert form["refiner.switch_at"] == 0.5


def test_the_last_generation_is_read_from_params_txt(services: Services) -> None:
    with pytest.raises(InvalidRequest, match="nothing has been generated"):
        last_infotext(services, "me")
    services.paths.params_txt.write_text(TEXT)
    assert last_infotext(services, "me") == TEXT


IMG2IMG = (
    "a bird\nSteps: 7, Sampler: Euler a, CFG scale: 4, Image CFG scale: 1.5, Seed: 99, Size: 128x64, "
    "Denoising strength: 0.41, Mask blur: 11, Mask mode: Inpaint not masked, Inpaint area: Only masked, "
    "Masked area padding: 48, Masked content: latent noise, Soft inpainting enabled: True, "
    "Soft inpainting schedule bias: 2.5, Hires upscale: 2, Version: v1.10.1"
)


def test_an_infotext_fills_img2imgs_own_fields(services: Services) -> None:
    pasted = form_from_infotext(IMG2IMG, services, "img2img")
    assert pasted.left_out == ()
    form = {**pasted.form, "image": True, "image.inpaint": True, "image.inpaint.mask": b""}
    made = request_from_form(form, services.settings.snapshot())
    assert made.hires is None
    assert made.image is not None
    assert (made.image.denoising_strength, made.image.image_cfg_scale) == (0.41, 1.5)
    inpaint = made.image.inpaint
    assert inpaint is not None
    assert (inpaint.blur_x, inpaint.invert, inpaint.only_masked, inpaint.padding, inpaint.fill) == (
        11,
        True,
        True,
        48,
        2,
    )
    assert inpaint.soft is not None
    assert inpaint.soft.schedule_bias == 2.5


def test_a_tab_takes_only_what_it_has_fields_for(services: Services) -> None:
    groups = {path.partition(".")[0] for path in form_from_infotext(IMG2IMG, services).form}
    assert not {"image"} & groups
    assert "hires" not in form_from_infotext(IMG2IMG, services, "img2img").form


def test_a_choice_of_another_program_is_left_out(services: Services) -> None:
    pasted = form_from_infotext("x\nSteps: 1, Sampler: Euler, Masked content: stars", services, "img2img")
    assert pasted.left_out == ("Masked content: stars",)


@pytest.mark.parametrize(
    "prompt",
    [
        "RAW photo, subject: woman, lens: 50mm, light: soft",
        "Title: The Cat, Artist: Nobody, Year: 1920",
        "a scene\ncamera: wide, time: dusk, mood: calm",
        "ratio: 16x9, colour: red, shape: round",
    ],
)
def test_a_prompt_with_colons_is_no_infotext(services: Services, prompt: str) -> None:
    pasted = form_from_infotext(prompt, services)
    assert pasted.form == {"prompt": prompt, "overrides": []}
    assert pasted.left_out == ()


@pytest.mark.parametrize(
    "text",
    [
        "cat, Steps: 20, Sampler: Euler a, CFG scale: 7",
        "cat\nfoo: 1, bar: 2, Clip skip: 2",
        "cat\nfoo: 1, bar: 2, Size: 64x64",
        "cat\nfoo: 1, bar: 2, Mask blur: 3",
    ],
)
def test_one_known_key_makes_an_infotext(services: Services, text: str) -> None:
    assert "negative_prompt" in form_from_infotext(text, services).form


def test_a_seed_of_64_bits_is_kept(services: Services) -> None:
    text = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 6687881544318117707, Size: 512x512"
    assert form_from_infotext(text, services).form["seed"] == 6687881544318117707
    beyond = form_from_infotext(text.replace("6687881544318117707", "18446744073709551615"), services).form
    with pytest.raises(InvalidRequest, match="18446744073709551615"):
        request_from_form(beyond, services.settings.snapshot())


def test_what_a_text_leaves_at_its_default_is_reset(services: Services) -> None:
    varied = form_from_infotext("x\nSteps: 1, Sampler: Euler, Seed: 1, Seed resize from: 64x32", services).form
    assert (varied["variation"], varied["variation.resize_from_width"], varied["variation.strength"]) == (True, 64, 0.0)
    plain = form_from_infotext("x\nSteps: 1, Sampler: Euler, Seed: 1", services).form
    assert {path: plain[path] for path in varied if path.startswith("variation")} == {
        "variation": False,
        "variation.seed": -1,
        "variation.strength": 0.0,
        "variation.resize_from_width": 0,
        "variation.resize_from_height": 0,
    }
    assert "cfg_scale" not in plain  # always written, so its absence implies nothing


def test_a_prompt_alone_and_what_is_never_pasted_reset_nothing(services: Services) -> None:
    assert "variation" not in form_from_infotext("a cat", services).form
    services.settings.update({"infotext_skip_pasting": ["Variation seed", "Variation seed strength"]})
    form = form_from_infotext("x\nSteps: 1, Sampler: Euler, Seed: 1", services).form
    assert not {"variation", "variation.seed", "variation.strength"} & form.keys()


def test_a_whole_number_is_written_as_it_was_read(services: Services) -> None:
    form = form_from_infotext("x\nSteps: 1, Sampler: Euler, CFG scale: 7, Seed: 12345678901234567", services).form
    assert (repr(form["cfg_scale"]), form["seed"]) == ("7", 12345678901234567)
