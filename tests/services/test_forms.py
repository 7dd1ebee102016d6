from __future__ import annotations

from typing import Any

import pytest

from webui.core.errors import InvalidRequest
from webui.core.params import Params, param
from webui.core.request import GenerationRequest, HiresFix, Refiner, Variation
from webui.core.settings import Settings
from webui.core.settings_table import SETTINGS
from webui.services.forms import overrides_from_lines, request_from_form

DEFAULTS = Settings.defaults(SETTINGS)


class Vignette(Params):
    """Darken the corners."""

    strength: float = param(0.0, label="Strength", infotext="Vignette strength", ge=0, le=1, step=0.05)


def request(**form: Any) -> GenerationRequest:
    return request_from_form({key.replace("__", "."): value for key, value in form.items()}, DEFAULTS, [Vignette])


def test_a_form_of_nothing_is_the_default_request() -> None:
    assert request() == GenerationRequest(extensions={"Vignette": Vignette()})


def test_groups_are_there_when_their_checkbox_is_set() -> None:
    form = {"hires__scale": 1.5, "refiner__checkpoint": "b", "variation__seed": 7}
    off = request(hires=False, refiner=False, **form)
    assert (off.hires, off.refiner, off.variation) == (None, None, Variation(seed=7))
    on = request(hires=True, refiner=True, **form)
    assert (on.hires, on.refiner) == (HiresFix(scale=1.5), Refiner(checkpoint="b"))


def test_same_as_above_means_not_chosen() -> None:
    hires = request(hires=True, hires__checkpoint="Use same checkpoint", hires__sampler="Use same sampler").hires
    assert hires is not None
    assert (hires.checkpoint, hires.sampler) == (None, None)


def test_an_emptied_field_has_its_default() -> None:
    assert request(seed=None, steps=None, styles=None) == request()


def test_whole_numbers_stay_whole() -> None:
    made = request(cfg_scale=7, hires=True, hires__scale=2)
    assert made.hires is not None
    assert (str(made.cfg_scale), str(made.hires.scale), str(request(cfg_scale=7.5).cfg_scale)) == ("7", "2", "7.5")


def test_extensions_have_their_own_fields() -> None:
    made = request(extensions__Vignette__strength=0.25)
    assert made.extension(Vignette) == Vignette(strength=0.25)
    with pytest.raises(InvalidRequest, match="Strength"):
        request(extensions__Vignette__strength=2)


@pytest.mark.parametrize(("field", "value"), [("width", 7), ("steps", 0), ("seed", 2**63), ("cfg_scale", float("inf"))])
def test_a_bad_value_is_named(field: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=rf"\({field}\) must be .*{value}"):
        request(**{field: value})


def test_numbers_typed_as_text_are_exact_and_may_be_left_empty() -> None:
    assert request(seed="6687881544318117707", variation__seed="-5").seed == 6687881544318117707
    assert request(seed="", variation__seed=" 7 ") == request(variation__seed=7)
    for wrong in ("ten", "1.5", "9223372036854775808"):
        with pytest.raises(InvalidRequest, match=r"Seed \(seed\) must be"):
            request(seed=wrong)


def test_a_variation_of_no_strength_may_have_any_seed() -> None:
    assert request(variation__seed="ten", variation__strength=0) == request()
    with pytest.raises(InvalidRequest, match="Variation seed"):
        request(variation__seed="ten", variation__strength=0.1)


def test_overrides_are_read_from_lines() -> None:
    lines = ["Clip skip: 2", "RNG: NV", "Tiling: True", "Eta: 0.5"]
    wanted = {"CLIP_stop_at_last_layers": 2, "randn_source": "NV", "tiling": True, "eta_ancestral": 0.5}
    assert overrides_from_lines(lines, DEFAULTS) == wanted
    assert request(overrides=lines).overrides == wanted


@pytest.mark.parametrize("line", ["Clip skp: 2", "Clip skip", "Clip skip: x", "RNG: TPU"])
def test_a_bad_override_is_refused(line: str) -> None:
    with pytest.raises(InvalidRequest):
        overrides_from_lines([line], DEFAULTS)


def test_a_group_with_defaults_of_its_own_can_be_switched_off() -> None:
    form = {"variation__seed": 7, "variation__strength": 0.5}
    assert request(variation=False, **form).variation == Variation()
    assert request(variation=True, **form).variation == Variation(seed=7, strength=0.5)
