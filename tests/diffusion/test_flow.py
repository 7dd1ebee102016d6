"""Flows on Gaussian data, whose velocity and whose path are known exactly, through the same samplers as all models.

For data of standard deviation s, x = (1 - sigma) x0 + sigma noise has the deviation S = sqrt((1 - sigma)^2 s^2 +
sigma^2), and the flow carries x from one level to another by the factor of their S.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from webui.core.choices import SAMPLERS, Choices, load_function
from webui.core.hooks import Step
from webui.diffusion.denoiser import Cond, Network, network_denoiser
from webui.diffusion.schedules import FlowTable, ScheduleOptions, sigmas_for

CHOICES = Choices()
DATA_STD = 0.7
PLAIN = [sampler.name for sampler in SAMPLERS if sampler.is_plain_ode]
TABLE = FlowTable.of(3.0)


def deviation(sigma: float) -> float:
    return math.hypot((1 - sigma) * DATA_STD, sigma)


def velocity(x: Tensor, timesteps: Tensor, cond: Cond) -> Tensor:
    """E[noise - x0 | x], what the best network answers; it is told 1000 sigma."""
    sigma = float(timesteps[0]) / 1000
    return x * (sigma - (1 - sigma) * DATA_STD**2) / deviation(sigma) ** 2


def end(name: str, steps: int) -> float:
    """The deviation of what a sampler makes of unit noise, relative to the data's."""
    sampler, scheduler = CHOICES.find_sampler(name, "Normal")
    sigmas = sigmas_for(CHOICES.resolve_schedule(sampler, scheduler), steps, TABLE, ScheduleOptions()).tolist()
    predict = network_denoiser(Network(velocity, TABLE, "flow"))
    walk = [Step(index, len(sigmas) - 1, *sigmas[index : index + 2]) for index in range(len(sigmas) - 1)]
    function = load_function(sampler.function)
    noise = {"noise": lambda: torch.zeros(1)} if "noise" in function.__code__.co_varnames else {}
    with torch.inference_mode():
        made = function(lambda x, sigma, step: predict(x, sigma, Cond(x), step), torch.ones(1, 1), walk, **noise)
    return float(made) / DATA_STD


def test_the_plain_samplers_are_the_known_ones() -> None:
    newer = ["DEIS", "IPNDM", "Res Multistep", "Gradient Estimation"]
    assert ["DPM++ 2M", "Euler", "LMS", "Heun", "DPM2", *newer] == PLAIN


@pytest.mark.parametrize("name", PLAIN)
def test_the_samplers_carry_noise_to_data(name: str) -> None:
    coarse, fine = abs(end(name, 20) - 1), abs(end(name, 80) - 1)
    assert fine < 0.03
    assert fine < coarse / 2
