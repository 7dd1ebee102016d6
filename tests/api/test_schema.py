"""The body of txt2img has A1111's names and defaults, and means the request that it says."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from webui.api.schema import TextToImageBody, request_of
from webui.core.choices import Choices
from webui.core.errors import InvalidRequest
from webui.core.params import Params, param
from webui.core.request import GenerationRequest


class Vignette(Params):
    """Darken the corners."""

    strength: float = param(0.0, label="Strength", infotext="Vignette strength", ge=0, le=1, step=0.05)
    soft: bool = param(True, label="Soft")


def requested(**fields: Any) -> GenerationRequest:
    return request_of(TextToImageBody(**fields), [Vignette], Choices())


@pytest.mark.parity
def test_fields_and_defaults_are_a1111s(parity: Path) -> None:
    schema = json.loads((parity / "openapi.json").read_text())["components"]["schemas"]
    recorded = schema["StableDiffusionProcessingTxt2Img"]["properties"]
    ours = TextToImageBody().model_dump(mode="json")
    assert set(ours) == set(recorded)
    for name, field in recorded.items():
        assert ours[name] == field.get("default", [] if name == "styles" else None), name


def test_every_parameter_reaches_its_place() -> None:
    request = requested(
        prompt="a cat", negative_prompt="dog", styles=["stA"], seed=5, subseed=6, subseed_strength=0.5,
        seed_resize_from_w=64, sampler_name="Heun", scheduler="karras", batch_size=2, n_iter=3, steps=4, cfg_scale=5,
        width=64, height=128, tiling=True, eta=0.5, s_churn=1, enable_hr=True, hr_scale=1.5, hr_upscaler="Lanczos",
        hr_second_pass_steps=7, denoising_strength=0.4, hr_sampler_name="Euler", hr_prompt="more",
        refiner_checkpoint="other", refiner_switch_at=0.6, save_images=True,
    )  # fmt: skip
    assert (request.prompt, request.negative_prompt, request.styles) == ("a cat", "dog", ("stA",))
    assert (request.seed, request.variation.seed, request.variation.strength) == (5, 6, 0.5)
    assert (request.variation.resize_from_width, request.variation.resize_from_height) == (64, -1)
    assert (request.sampler, request.scheduler, request.steps, request.cfg_scale) == ("Heun", "Karras", 4, 5.0)
    assert (request.batch_size, request.batch_count, request.width, request.height) == (2, 3, 64, 128)
    assert (request.tiling, request.sampler_options.eta, request.sampler_options.s_churn) == (True, 0.5, 1.0)
    assert request.hires is not None
    assert (request.hires.scale, request.hires.upscaler, request.hires.steps) == (1.5, "Lanczos", 7)
    assert (request.hires.denoising_strength, request.hires.sampler, request.hires.prompt) == (0.4, "Euler", "more")
    assert request.refiner is not None
    assert (request.refiner.checkpoint, request.refiner.switch_at) == ("other", 0.6)
    assert request.save_samples
    assert request.save_grid


def test_an_empty_body_is_a1111s_default_picture() -> None:
    request = requested()
    assert (request.sampler, request.scheduler, request.steps, request.cfg_scale) == ("Euler", "Automatic", 50, 7.0)
    assert (request.hires, request.refiner, request.image) == (None, None, None)
    assert not request.save_samples


def test_null_is_the_default_and_unknown_fields_are_ignored() -> None:
    nulls = dict.fromkeys(TextToImageBody.model_fields)
    assert requested(**nulls, something_else=[1]) == requested()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"sampler_name": "k_euler_a"}, ("Euler a", "Automatic")),
        ({"sampler_name": "DPM++ 2M Karras"}, ("DPM++ 2M", "Karras")),
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "exponential"}, ("DPM++ 2M", "Exponential")),
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "Automatic"}, ("DPM++ 2M", "Karras")),
        ({"sampler_index": "heun"}, ("Heun", "Automatic")),
        ({"sampler_index": "Heun", "sampler_name": "DDIM"}, ("DDIM", "Automatic")),
    ],
)
def test_sampler_aliases_and_legacy_names(given: dict[str, str], meant: tuple[str, str]) -> None:
    request = requested(**given)
    assert (request.sampler, request.scheduler) == meant


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sampler_name": "Eular"}, '"Eular"; the closest is "Euler"'),
        ({"scheduler": "Karas"}, '"Karas"; the closest is "Karras"'),
        ({"script_name": "x/y/z plot"}, "Script 'x/y/z plot' not found"),
        ({"alwayson_scripts": {"ControlNet": {"args": []}}}, "Script 'ControlNet' not found"),
        ({"alwayson_scripts": {"Vignete": {}}}, 'closest is "Vignette"'),
        ({"alwayson_scripts": {"Vignette": {"args": [0.5, True, 3]}}}, "up to 2 values"),
        ({"alwayson_scripts": {"Vignette": {"args": [7]}}}, "Strength"),
        ({"alwayson_scripts": {"Vignette": {"args": {"weight": 1}}}}, "weight"),
        ({"alwayson_scripts": {"Vignette": 3}}, "up to 2 values"),
        ({"enable_hr": True, "firstphase_width": 64}, "belong together"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        requested(**fields)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 7}, {"width": 0}, {"height": -8}, {"width": 10**6}, {"width": "wide"}, {"steps": 0},
        {"steps": 10**9}, {"steps": "many"}, {"batch_size": 10**6}, {"n_iter": 10**9}, {"cfg_scale": float("inf")},
        {"seed": 2**64}, {"prompt": "x" * 10**6}, {"prompt": 7}, {"styles": "stA"}, {"override_settings": [1]},
        {"alwayson_scripts": []}, {"enable_hr": True, "denoising_strength": 2},
        {"enable_hr": True, "hr_scale": 1e300}, {"refiner_checkpoint": "a", "refiner_switch_at": -1},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        requested(**fields)


def test_extensions_take_values_by_order_or_by_name() -> None:
    for args in ([0.5, False], {"strength": 0.5, "soft": False}):
        request = requested(alwayson_scripts={"vignette": {"args": args}})
        assert request.extension(Vignette) == Vignette(strength=0.5, soft=False)
    assert requested(alwayson_scripts={"vignette": {}, "Refiner": {"args": [1]}}).extension(Vignette) == Vignette()


def test_old_first_phase_fields_turn_the_size_into_the_target() -> None:
    request = requested(enable_hr=True, firstphase_width=64, firstphase_height=32, width=128, height=64)
    assert request.hires is not None
    assert (request.width, request.height) == (64, 32)
    assert (request.hires.resize_width, request.hires.resize_height) == (128, 64)


@given(st.dictionaries(st.sampled_from(sorted(TextToImageBody.model_fields)), st.none() | st.booleans()
       | st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.integers(), max_size=2)))  # fmt: skip
def test_any_body_is_a_request_or_a_refusal(fields: dict[str, Any]) -> None:
    with contextlib.suppress(ValidationError, InvalidRequest):
        requested(**fields)
