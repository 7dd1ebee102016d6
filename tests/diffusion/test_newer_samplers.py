"""Newer samplers: their orders on Gaussian data, what they become in known special cases, and diffusers' schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from diffusers import DEISMultistepScheduler, SASolverScheduler, TCDScheduler
from torch import Tensor

from tests.diffusion.test_samplers import (
    BETAS,
    CPU,
    DATA_STD,
    SHAPE,
    error_after,
    gaussian,
    no_noise,
    steps_of,
)
from webui.core.choices import SAMPLERS
from webui.core.hooks import Step
from webui.diffusion.newer_samplers import (
    exponential_weights,
    sample_deis,
    sample_dpmpp_2m_cfgpp,
    sample_er_sde,
    sample_euler_ancestral_cfgpp,
    sample_euler_cfgpp,
    sample_gradient_estimation,
    sample_ipndm,
    sample_res_multistep,
    sample_sa_solver,
    sample_tcd,
)
from webui.diffusion.noise import ImageNoise, RandomSource
from webui.diffusion.samplers import sample_dpmpp_2m, sample_euler, sample_euler_ancestral, sample_lcm
from webui.diffusion.schedules import NoiseTable, exponential_sigmas, scaled_linear_alphas_cumprod

ODE = {"noise": no_noise, "eta": 0.0}
NO_SCALE = {"noise": no_noise, "noise_scale": lambda sigma: sigma}


def unguided(sampler: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A CFG++ sampler where the negative prompt predicts what the prompt does."""

    def sampled(denoise, x, steps, **options):
        latest: list[Tensor] = []

        def remembering(x: Tensor, sigma: float, step: Step) -> Tensor:
            latest[:] = [denoise(x, sigma, step)]
            return latest[0]

        return sampler(remembering, x, steps, unconditioned=lambda: latest[0], **options)

    return sampled


def test_they_come_after_a1111s_twenty() -> None:
    assert [row.group for row in SAMPLERS] == ["a1111"] * 20 + ["newer"] * (len(SAMPLERS) - 20)


@pytest.mark.parametrize("rate", [-1.0, 1.0, 2.0])
def test_exponential_weights_integrate_polynomials(rate: float) -> None:
    """Against the closed form for s^2: the integral of exp by parts."""
    nodes, start, end = (0.3, -0.1, -0.9), 0.3, 1.7

    def primitive(s: float) -> float:
        return math.exp(rate * (s - end)) * (s**2 - 2 * s / rate + 2 / rate**2)

    weights = exponential_weights(nodes, start, end, rate)
    found = sum(weight * node**2 for weight, node in zip(weights, nodes, strict=True))
    assert found == pytest.approx(primitive(end) - primitive(start), rel=1e-10)
    assert sum(weights) == pytest.approx(1 - math.exp(-rate * (end - start)), rel=1e-10)


@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        (partial(sample_deis, points=1), 1),
        (partial(sample_deis, points=2), 2),
        (sample_gradient_estimation, 1),
        (partial(sample_sa_solver, predictor_order=1, corrector_order=0, **ODE), 1),
        (partial(sample_sa_solver, predictor_order=1, corrector_order=2, **ODE), 2),
        (partial(sample_er_sde, max_stage=1, **NO_SCALE), 1),
        (partial(sample_er_sde, max_stage=2, **NO_SCALE), 2),
        (unguided(sample_euler_cfgpp), 1),
        (unguided(partial(sample_euler_ancestral_cfgpp, **ODE)), 1),
        (unguided(sample_dpmpp_2m_cfgpp), 2),
    ],
)
def test_convergence_order(sampler: Callable[..., Tensor], order: int) -> None:
    coarse, fine = error_after(sampler, 160), error_after(sampler, 320)
    assert coarse / fine == pytest.approx(2**order, rel=0.2)
    assert fine < 0.02


def test_more_points_come_closer() -> None:
    """The first steps, which have fewer points, keep the error from falling faster than by the square for ever."""
    deis = [error_after(partial(sample_deis, points=points), 80) for points in (2, 3)]
    res = [error_after(partial(sample_res_multistep, points=points), 80) for points in (1, 2, 3)]
    sa = [
        error_after(partial(sample_sa_solver, predictor_order=p, corrector_order=p + 1, **ODE), 80) for p in (1, 2, 3)
    ]
    er_sde = [error_after(partial(sample_er_sde, max_stage=stage, **NO_SCALE), 80) for stage in (2, 3)]
    for errors, factor in ((deis, 10), (res, 3), (sa, 10), (er_sde, 1.3)):
        assert all(fewer > factor * more for fewer, more in zip(errors, errors[1:], strict=False)), errors


def test_gradient_estimation_by_one_and_a_half_is_adams_bashforth() -> None:
    x, steps = torch.ones(1, dtype=torch.float64), steps_of([9.0, 8.0, 7.0])
    ours = sample_gradient_estimation(gaussian, x, steps, estimation_gamma=1.5)
    assert torch.allclose(ours, sample_ipndm(gaussian, x, steps))


def test_ipndm_is_of_fourth_order_with_even_steps() -> None:
    """The first steps, of lower order, leave an error of their own: it is made small by starting where little bends."""
    errors = []
    for count in (100, 200):
        sigmas = torch.linspace(40.0, 20.0, count + 1, dtype=torch.float64).tolist()
        x = torch.ones(1, dtype=torch.float64)
        exact = math.sqrt((DATA_STD**2 + sigmas[-1] ** 2) / (DATA_STD**2 + sigmas[0] ** 2))
        errors.append(abs(float(sample_ipndm(gaussian, x, steps_of(sigmas))) - exact))
    assert errors[1] < errors[0] / 3.5
    assert errors[1] < 1e-8


@pytest.mark.parametrize(
    "sampler",
    [sample_sa_solver, sample_er_sde, unguided(sample_euler_ancestral_cfgpp)],
    ids=["SA-Solver", "ER SDE", "Euler a CFG++"],
)
def test_stochastic_samplers_keep_the_variance_of_the_data(sampler: Callable[..., Tensor]) -> None:
    sigmas = exponential_sigmas(300, 0.03, 20.0).tolist()
    noise = ImageNoise((4, 32, 32), (1, 2, 3, 4), RandomSource("CPU", CPU))
    x = noise.next() * math.sqrt(DATA_STD**2 + 20.0**2)
    assert float(sampler(gaussian, x, steps_of(sigmas), noise=noise.next).std()) == pytest.approx(DATA_STD, rel=0.05)


def test_cfgpp_samplers_are_the_plain_ones_when_guidance_changes_nothing() -> None:
    x = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 10
    steps = steps_of([10.0, 6.0, 3.0, 1.0, 0.2, 0.0])
    quiet = {"noise": no_noise}
    pairs = [
        (unguided(sample_euler_cfgpp)(gaussian, x, steps), sample_euler(gaussian, x, steps, **quiet)),
        (unguided(sample_dpmpp_2m_cfgpp)(gaussian, x, steps), sample_dpmpp_2m(gaussian, x, steps)),
        (
            unguided(sample_euler_ancestral_cfgpp)(gaussian, x, steps, **quiet),
            sample_euler_ancestral(gaussian, x, steps, **quiet),
        ),
    ]
    for ours, plain in pairs:
        assert torch.allclose(ours, plain)


def test_cfgpp_takes_the_noise_direction_of_the_negative_prompt() -> None:
    x, steps = torch.ones(1, 1, 1, 1, dtype=torch.float64), steps_of([2.0, 1.0])
    result = sample_euler_cfgpp(lambda x, sigma, step: x * 0.5, x, steps, unconditioned=lambda: x * 0.2)
    assert float(result) == pytest.approx(0.5 + (1 - 0.2) / 2 * 1.0)


def test_er_sde_of_two_points_is_exact_for_a_prediction_that_grows_with_sigma() -> None:
    """x0 linear in sigma, whatever x: then the second stage's Taylor series is x0 itself."""

    def linear(x: Tensor, sigma: float, step: Step) -> Tensor:
        return torch.full_like(x, 3 * sigma + 1)

    sigmas = [4.0, 3.9, 2.0, 1.0]
    coarse = sample_er_sde(linear, torch.zeros(1, dtype=torch.float64), steps_of(sigmas), **NO_SCALE)
    between = [4.0, 3.9, *torch.linspace(3.8, 1.0, 200, dtype=torch.float64).tolist()]
    fine = sample_er_sde(linear, torch.zeros(1, dtype=torch.float64), steps_of(between), **NO_SCALE)
    assert float(coarse) == pytest.approx(float(fine), rel=1e-6)


def vp_result(scheduler, count: int, **options: object) -> tuple[Tensor, Tensor, list[float]]:
    """Start, end (both in our scale) and levels of diffusers' loop with the Gaussian denoiser."""
    scheduler.set_timesteps(count)
    levels = [float(sigma) for sigma in scheduler.sigmas]
    start = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = start.clone()
    for index, timestep in enumerate(scheduler.timesteps[:-1]):
        ours = x * math.sqrt(levels[index] ** 2 + 1)
        eps = (ours - gaussian(ours, levels[index], None)) / levels[index]  # type: ignore[arg-type]
        x = scheduler.step(eps, timestep, x, **options).prev_sample
    return start * math.sqrt(levels[0] ** 2 + 1), x * math.sqrt(levels[count - 1] ** 2 + 1), levels[:count]


def test_deis_agrees_with_diffusers() -> None:
    scheduler = DEISMultistepScheduler(**BETAS, use_karras_sigmas=True, solver_order=3, lower_order_final=False)
    start, theirs, levels = vp_result(scheduler, 12)
    assert torch.allclose(sample_deis(gaussian, start, steps_of(levels)), theirs, atol=1e-4)


@pytest.mark.parametrize("orders", [(1, 1), (3, 1)])
def test_sa_solver_agrees_with_diffusers(orders: tuple[int, int]) -> None:
    """Where the order is 2, theirs changes the weights by a term of third order, so that the first steps differ."""
    scheduler = SASolverScheduler(
        **BETAS,
        use_karras_sigmas=True,
        predictor_order=orders[0],
        corrector_order=orders[1],
        tau_func=lambda timestep: 0,
        lower_order_final=False,
    )
    start, theirs, levels = vp_result(scheduler, 40)
    options = {"predictor_order": orders[0], "corrector_order": orders[1], **ODE}
    ours = sample_sa_solver(gaussian, start, steps_of(levels), **options)
    assert torch.allclose(ours, theirs, atol=1e-4 if orders[0] == 1 else 2e-3)


def test_tcd_agrees_with_diffusers() -> None:
    scheduler = TCDScheduler(**BETAS)
    table = NoiseTable(scaled_linear_alphas_cumprod())
    scheduler.set_timesteps(4)
    timesteps = [int(timestep) for timestep in scheduler.timesteps]
    drawn = torch.Generator().manual_seed(3)
    start = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = start.clone()
    for timestep in timesteps:
        sigma = float(table.sigmas[timestep])
        ours = x * math.sqrt(sigma**2 + 1)
        eps = (ours - gaussian(ours, sigma, None)) / sigma  # type: ignore[arg-type]
        x = scheduler.step(eps, timestep, x, eta=0.3, generator=drawn).prev_sample
    levels = [float(table.sigmas[timestep]) for timestep in [*timesteps, 0]]
    again = torch.Generator().manual_seed(3)
    mine = sample_tcd(
        gaussian,
        start * math.sqrt(levels[0] ** 2 + 1),
        steps_of(levels),
        noise=lambda: torch.randn(1, *SHAPE, dtype=torch.float64, generator=again),
        level_at=table.level_at,
    )
    assert torch.allclose(mine, x * math.sqrt(levels[-1] ** 2 + 1), atol=1e-4)


def test_tcd_of_full_gamma_jumps_as_lcm_does() -> None:
    x, steps = torch.ones(1, 2, dtype=torch.float64), steps_of([5.0, 1.0, 0.0])
    draws = [torch.Generator().manual_seed(2) for _ in range(2)]
    noises = [partial(torch.randn, 1, 2, dtype=torch.float64, generator=draw) for draw in draws]
    ours = sample_tcd(gaussian, x, steps, noise=noises[0], level_at=lambda sigma, share: 0.0, gamma=1.0)
    assert torch.allclose(ours, sample_lcm(gaussian, x, steps, noise=noises[1]))
