"""Classifier-free guidance: the sum it computes, and which prompt is in force at which call."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from webui.core.hooks import Step
from webui.diffusion.denoiser import Cond
from webui.diffusion.guidance import (
    ClassifierFreeGuidance,
    GuidanceOptions,
    PromptConds,
    Schedule,
    TimedCond,
    WeightedSchedule,
    at_call,
)

STEP = Step(0, 10, 1.0, 0.5)


def vectors(value: float, tokens: int = 77) -> Tensor:
    return torch.full((tokens, 3), value)


def constant(value: float, tokens: int = 77) -> Schedule:
    return (TimedCond(100, vectors(value, tokens)),)


class Network:
    """Predicts, for each row, the mean of its last text vector; remembers what it was asked."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.lengths: list[int] = []

    def __call__(self, x: Tensor, sigma: float, cond: Cond, step: Step) -> Tensor:
        assert len(x) == len(cond.context)
        self.rows.append(len(x))
        self.lengths.append(cond.context.shape[1])
        return cond.context[:, -1].mean(dim=1).view(-1, 1, 1, 1).expand_as(x).clone()


def guided(conds: PromptConds, network: Network, calls: int = 1, sigma: float = 1.0, **options: object) -> list[Tensor]:
    guidance = ClassifierFreeGuidance(conds, GuidanceOptions(**{"cfg_scale": 7.0, "total_calls": 10, **options}))
    denoise = guidance.denoiser(network)
    x = torch.zeros(len(conds.positive), 4, 2, 2)
    return [denoise(x, sigma, STEP)[:, 0, 0, 0] for _ in range(calls)]


def one(positive: Schedule, negative: Schedule) -> PromptConds:
    return PromptConds(((WeightedSchedule(1.0, positive),),), (negative,))


def test_guidance_goes_beyond_the_prompt() -> None:
    network = Network()
    (result,) = guided(one(constant(3.0), constant(1.0)), network)
    assert result.tolist() == [1 + 7 * (3 - 1)]
    assert network.rows == [2]


class FromPython(TorchDispatchMode):
    """Counts the tensors made of Python's numbers: on a card each is a copy that the processor waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        self.count += function is torch.ops.aten.lift_fresh.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("weight", "waits"), [(1.0, 0), (0.5, 1)])
def test_a_usual_prompt_is_guided_without_waiting_for_a_card(weight: float, waits: int) -> None:
    conds = PromptConds(((WeightedSchedule(weight, constant(3.0)),),), (constant(1.0),))
    denoise = ClassifierFreeGuidance(conds, GuidanceOptions(7.0, 10)).denoiser(Network())
    x = torch.zeros(1, 4, 2, 2)
    denoise(x, 1.0, STEP)
    with FromPython() as made:
        result = denoise(x, 1.0, STEP)
    assert made.count == waits
    assert result.flatten()[0] == 1 + 7 * weight * (3 - 1)


def test_and_parts_add_up_by_weight_in_each_image() -> None:
    conds = PromptConds(
        (
            (WeightedSchedule(1.0, constant(3.0)), WeightedSchedule(-0.5, constant(5.0))),
            (WeightedSchedule(0.5, constant(2.0)),),
        ),
        (constant(1.0), constant(0.0)),
    )
    (result,) = guided(conds, Network(), cfg_scale=2.0)
    assert result.tolist() == [1 + 2 * (1.0 * 2 - 0.5 * 4), 0 + 2 * 0.5 * 2]


def test_the_first_entry_lasts_one_call_longer_than_its_end() -> None:
    schedule = (TimedCond(2, vectors(1.0)), TimedCond(5, vectors(2.0)))
    assert [float(at_call(schedule, call).vectors[0, 0]) for call in range(7)] == [1, 1, 1, 2, 2, 2, 1]
    results = guided(one(schedule, constant(0.0)), Network(), calls=4, cfg_scale=1.0)
    assert [float(result[0]) for result in results] == [1, 1, 1, 2]


def test_unequal_lengths_run_apart() -> None:
    network = Network()
    (result,) = guided(one(constant(3.0, 154), constant(1.0)), network)
    assert result.tolist() == [15.0]
    assert network.lengths == [154, 77]


@pytest.mark.parametrize(("pad", "expected"), [("empty", 9.0 + 7 * (3 - 9)), ("repeat", 15.0)])
def test_padding_brings_both_to_one_length(pad: str, expected: float) -> None:
    network = Network()
    (result,) = guided(one(constant(3.0, 154), constant(1.0)), network, pad=pad, empty=vectors(9.0))
    assert network.lengths == [154]
    assert result.tolist() == [expected]


def test_repeating_cuts_a_longer_negative_prompt() -> None:
    network = Network()
    guided(one(constant(3.0), constant(1.0, 154)), network, pad="repeat")
    assert network.lengths == [77]


def test_negative_prompt_is_left_out_every_other_call_below_a_noise_level() -> None:
    network = Network()
    guided(one(constant(3.0), constant(1.0)), network, calls=4, min_sigma=2.0)
    assert network.rows == [2, 1, 2, 1]
    network = Network()
    guided(one(constant(3.0), constant(1.0)), network, calls=3, min_sigma=2.0, min_sigma_all=True)
    assert network.rows == [1, 1, 1]
    network = Network()
    guided(one(constant(3.0), constant(1.0)), network, calls=2, sigma=5.0, min_sigma=2.0)
    assert network.rows == [2, 2]


def test_without_the_negative_prompt_the_prediction_is_the_prompts_own() -> None:
    (result,) = guided(one(constant(3.0), constant(1.0)), Network(), min_sigma=2.0, min_sigma_all=True)
    assert result.tolist() == [3.0]


def test_early_calls_can_leave_it_out() -> None:
    network = Network()
    guided(one(constant(3.0), constant(1.0)), network, calls=5, skip_early=0.2)
    assert network.rows == [1, 1, 1, 2, 2]


def test_separate_calls_give_the_same() -> None:
    network = Network()
    (result,) = guided(one(constant(3.0), constant(1.0)), network, batch_together=False)
    assert network.rows == [1, 1]
    assert result.tolist() == [15.0]


def test_an_image_scale_adds_a_third_prediction_without_the_picture() -> None:
    """x0 = U + cfg * (C - I) + image * (I - U), with the picture in C and I alone."""
    conds = one(constant(1.0), constant(2.0))
    picture = torch.full((1, 4, 2, 2), 5.0)

    def predict(x: Tensor, sigma: float, cond: Cond, step: Step) -> Tensor:
        assert cond.channels is not None
        return cond.context[:, 0, 0].view(-1, 1, 1, 1) * 10 + cond.channels

    for together in (True, False):
        options = GuidanceOptions(cfg_scale=3.0, total_calls=4, image_scale=2.0, batch_together=together)
        guidance = ClassifierFreeGuidance(conds, options, picture)
        x0 = guidance.denoiser(predict)(torch.zeros(1, 4, 2, 2), 1.0, STEP)
        conditioned, pictured, unconditioned = 15.0, 25.0, 20.0
        expected = unconditioned + 3 * (conditioned - pictured) + 2 * (pictured - unconditioned)
        assert torch.allclose(x0, torch.full_like(x0, expected))
