"""Samplers on Gaussian data, whose denoiser and whose path are known exactly, and against diffusers.

For data of standard deviation s the best denoiser is x * s^2 / (s^2 + sigma^2), and the probability flow
carries x from sigma_a to sigma_b by the factor sqrt((s^2 + sigma_b^2) / (s^2 + sigma_a^2)).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from torch import Tensor

from webui.core.choices import SAMPLERS, load_function
from webui.core.hooks import Step
from webui.diffusion.noise import BrownianNoise, ImageNoise, RandomSource
from webui.diffusion.samplers import (
    adams_bashforth,
    ancestral_split,
    halved_in_log,
    sample_ddim,
    sample_ddim_cfgpp,
    sample_dpm_2,
    sample_dpm_2_ancestral,
    sample_dpm_adaptive,
    sample_dpm_fast,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_dpmpp_2s_ancestral,
    sample_dpmpp_3m_sde,
    sample_dpmpp_sde,
    sample_euler,
    sample_euler_ancestral,
    sample_heun,
    sample_lcm,
    sample_lms,
    sample_plms,
    sample_restart,
    sample_unipc,
)
from webui.diffusion.schedules import NoiseTable, exponential_sigmas, karras_sigmas, scaled_linear_alphas_cumprod

DATA_STD = 0.7
CPU = torch.device("cpu")
SHAPE = (4, 8, 8)
CPU_NOISE = RandomSource("CPU", CPU)


def gaussian(x: Tensor, sigma: float, step: Step) -> Tensor:
    return x * DATA_STD**2 / (DATA_STD**2 + sigma**2)


def steps_of(sigmas: Sequence[float]) -> list[Step]:
    count = len(sigmas) - 1
    return [Step(index, count, sigmas[index], sigmas[index + 1]) for index in range(count)]


def no_noise() -> Tensor:
    return torch.zeros(1, *SHAPE, dtype=torch.float64)


def error_after(sampler, count: int, **options: object) -> float:
    """Relative distance from the exact path at sigma 0.5, coming from 10 in `count` steps even in log sigma."""
    sigmas = torch.linspace(math.log(10), math.log(0.5), count + 1, dtype=torch.float64).exp().tolist()
    x = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 10
    exact = x * math.sqrt((DATA_STD**2 + 0.25) / (DATA_STD**2 + 100))
    return float((sampler(gaussian, x, steps_of(sigmas), **options) - exact).norm() / exact.norm())


def vp_scaled(sampler):
    """A sampler that ends in the variance-preserving scale, brought back to ours at the last level, 0.5."""

    def scaled(*arguments, **options):
        return sampler(*arguments, **options) * math.sqrt(1.25)

    return scaled


@pytest.mark.parametrize(
    ("sampler", "order", "options"),
    [
        (sample_euler, 1, {"noise": no_noise}),
        (sample_euler_ancestral, 1, {"noise": no_noise, "eta": 0.0}),
        (sample_heun, 2, {"noise": no_noise}),
        (sample_dpmpp_2m, 2, {}),
        (sample_dpmpp_2m_sde, 2, {"path_noise": None, "eta": 0.0}),
        (sample_dpm_2, 2, {"noise": no_noise}),
        (sample_dpm_2_ancestral, 2, {"noise": no_noise, "eta": 0.0}),
        (sample_dpmpp_2s_ancestral, 2, {"noise": no_noise, "eta": 0.0}),
        (sample_dpmpp_sde, 2, {"path_noise": lambda a, b: no_noise(), "eta": 0.0}),
        (sample_restart, 2, {"noise": no_noise}),
        (vp_scaled(sample_plms), 2, {}),
        (vp_scaled(sample_unipc), 2, {"order": 1}),
        (vp_scaled(sample_unipc), 3, {"order": 2, "lower_order_final": False}),
    ],
)
def test_convergence_order(sampler, order: int, options: dict[str, object]) -> None:
    coarse, fine = error_after(sampler, 80, **options), error_after(sampler, 160, **options)
    assert coarse / fine == pytest.approx(2**order, rel=0.15)
    assert fine < 0.02


@pytest.mark.parametrize(
    "sampler",
    [
        sample_euler_ancestral,
        sample_dpmpp_2m_sde,
        sample_dpmpp_3m_sde,
        sample_dpmpp_sde,
        sample_dpmpp_2s_ancestral,
        sample_dpm_2_ancestral,
    ],
)
def test_stochastic_samplers_keep_the_variance_of_the_data(sampler) -> None:
    shape, seeds = (4, 32, 32), (1, 2, 3, 4)
    sigmas = exponential_sigmas(200, 0.03, 20.0).tolist()
    noise = ImageNoise(shape, seeds, RandomSource("CPU", CPU))
    x = noise.next() * math.sqrt(DATA_STD**2 + 20.0**2)
    options = {"noise": noise.next}
    if "path_noise" in inspect.signature(sampler).parameters:
        options = {"path_noise": BrownianNoise(x, 0.03, 20.0, seeds, CPU_NOISE).between}
    assert float(sampler(gaussian, x, steps_of(sigmas), **options).std()) == pytest.approx(DATA_STD, rel=0.03)


def test_churn_keeps_the_variance_of_the_data() -> None:
    shape = (4, 32, 32)
    sigmas = karras_sigmas(100, 0.03, 20.0).tolist()
    noise = ImageNoise(shape, (1, 2), RandomSource("CPU", CPU))
    x = noise.next() * math.sqrt(DATA_STD**2 + 20.0**2)
    result = sample_heun(gaussian, x, steps_of(sigmas), noise=noise.next, s_churn=30.0)
    assert float(result.std()) == pytest.approx(DATA_STD, rel=0.05)


def test_noise_is_drawn_every_step_of_churn_samplers_even_without_churn() -> None:
    for sampler in (sample_euler, sample_heun):
        noise, reference = (ImageNoise(SHAPE, (1,), RandomSource("CPU", CPU)) for _ in range(2))
        sampler(gaussian, noise.next(), steps_of([3.0, 2.0, 1.0, 0.0]), noise=noise.next)
        for _ in range(4):
            reference.next()
        assert torch.equal(noise.next(), reference.next())


def test_ancestral_split_adds_up() -> None:
    down, up = ancestral_split(3.0, 2.0, 1.0)
    assert down**2 + up**2 == pytest.approx(4.0)
    assert ancestral_split(3.0, 2.0, 0.0) == (2.0, 0.0)
    assert ancestral_split(3.0, 0.0, 1.0) == (0.0, 0.0)


@pytest.mark.parametrize("sampler", [pytest.param(load_function(row.function), id=row.name) for row in SAMPLERS])
def test_ending_early_is_legal(sampler) -> None:
    noise = ImageNoise(SHAPE, (1,), RandomSource("CPU", CPU))
    x = noise.next() * 10
    offered = {
        "noise": noise.next,
        "path_noise": BrownianNoise(x, 0.1, 10.0, [1], CPU_NOISE).between,
        "unconditioned": lambda: torch.zeros_like(x),
        "calls": 4,
        "lowest": 0.1,
        "level_at": lambda sigma, share: sigma * share,
    }
    options = {key: value for key, value in offered.items() if key in inspect.signature(sampler).parameters}
    steps = steps_of([10.0, 5.0, 1.0, 0.1, 0.05])
    assert sampler(gaussian, x, iter(steps[:2]), **options).shape == x.shape
    assert torch.equal(sampler(gaussian, x, iter(()), **options), x)


@pytest.fixture(scope="module")
def table() -> NoiseTable:
    return NoiseTable(scaled_linear_alphas_cumprod())


def diffusers_result(scheduler, count: int, sigmas: Sequence[float] | None = None) -> tuple[Tensor, list[float]]:
    """The path of diffusers' own loop with the Gaussian denoiser, and the levels it went through."""
    scheduler.set_timesteps(count)
    levels = [float(sigma) for sigma in scheduler.sigmas]
    x = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * levels[0]
    for timestep in scheduler.timesteps:
        sigma = levels[scheduler.step_index or 0]
        x0 = gaussian(x, sigma, None)  # type: ignore[arg-type]
        x = scheduler.step((x - x0) / sigma, timestep, x).prev_sample
    return x, levels


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


def test_euler_agrees_with_diffusers() -> None:
    theirs, levels = diffusers_result(EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True), 12)
    x = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * levels[0]
    assert torch.allclose(sample_euler(gaussian, x, steps_of(levels), noise=no_noise), theirs, atol=1e-5)


def test_heun_agrees_with_diffusers() -> None:
    theirs, levels = diffusers_result(HeunDiscreteScheduler(**BETAS, use_karras_sigmas=True), 12)
    distinct = list(dict.fromkeys(levels))
    x = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * levels[0]
    assert torch.allclose(sample_heun(gaussian, x, steps_of(distinct), noise=no_noise), theirs, atol=1e-5)


def test_dpmpp_2m_agrees_with_diffusers(table: NoiseTable) -> None:
    """diffusers steps in the variance-preserving scale; x there is ours times sqrt(alpha-bar)."""
    scheduler = DPMSolverMultistepScheduler(
        **BETAS, use_karras_sigmas=True, algorithm_type="dpmsolver++", lower_order_final=False
    )
    scheduler.set_timesteps(12)
    levels = [float(sigma) for sigma in scheduler.sigmas]
    start = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = start.clone()
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = levels[index]
        ours = x * math.sqrt(sigma**2 + 1)
        eps = (ours - gaussian(ours, sigma, None)) / sigma  # type: ignore[arg-type]
        x = scheduler.step(eps, timestep, x).prev_sample
    mine = sample_dpmpp_2m(gaussian, start * math.sqrt(levels[0] ** 2 + 1), steps_of(levels))
    assert torch.allclose(mine, x * math.sqrt(levels[-1] ** 2 + 1), atol=1e-4)


def test_ddim_agrees_with_diffusers(table: NoiseTable) -> None:
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    scheduler.set_timesteps(20)
    start = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = start.clone()
    timesteps = [int(timestep) for timestep in scheduler.timesteps]
    for timestep in timesteps[:-1]:
        sigma = float(table.sigmas[timestep])
        ours = x * math.sqrt(sigma**2 + 1)
        x = scheduler.step((ours - gaussian(ours, sigma, None)) / sigma, timestep, x).prev_sample  # type: ignore[arg-type]
    levels = [float(table.sigmas[timestep]) for timestep in timesteps]
    mine = sample_ddim(gaussian, start * math.sqrt(levels[0] ** 2 + 1), steps_of(levels), noise=no_noise)
    assert torch.allclose(mine, x, atol=1e-4)


@pytest.mark.parametrize(("sampler", "bound"), [(sample_lms, 1e-4), (sample_dpmpp_3m_sde, 1e-3)])
def test_higher_order_multistep_comes_close(sampler, bound: float) -> None:
    options = {"path_noise": None, "eta": 0.0} if sampler is sample_dpmpp_3m_sde else {}
    assert error_after(sampler, 80, **options) < bound
    assert error_after(sampler, 80, **options) < error_after(sample_heun, 80, noise=no_noise)


def test_dpm_fast_uses_the_calls_it_is_given() -> None:
    for calls in range(1, 10):
        asked = []

        def counting(x: Tensor, sigma: float, step: Step) -> Tensor:
            asked.append(sigma)  # noqa: B023  used within this round only
            return gaussian(x, sigma, step)

        sigmas = exponential_sigmas(calls // 3 + 2, 0.1, 10.0).tolist()[:-1]
        sample_dpm_fast(counting, no_noise(), steps_of(sigmas), noise=no_noise, calls=calls, lowest=0.1)
        assert len(asked) == calls


def test_dpm_adaptive_arrives_and_its_error_follows_its_tolerance() -> None:
    x = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 10
    exact = x * math.sqrt((DATA_STD**2 + 0.25) / (DATA_STD**2 + 100))
    errors = []
    for tolerance in (0.05, 0.0005):
        attempts = [Step(0, 1000, 10.0, 0.5)] * 1000
        result = sample_dpm_adaptive(
            gaussian, x, attempts, noise=no_noise, eta=0.0, rtol=tolerance, atol=tolerance / 10
        )
        errors.append(float((result - exact).norm() / exact.norm()))
    assert 10 * errors[1] < errors[0] < 0.05


def test_lcm_jumps_to_the_prediction() -> None:
    x = torch.ones(1, *SHAPE, dtype=torch.float64)
    result = sample_lcm(gaussian, x, steps_of([1.0, 0.0]), noise=no_noise)
    assert torch.allclose(result, gaussian(x, 1.0, Step(0, 1, 1.0, 0.0)))


def test_ddim_cfgpp_is_ddim_when_guidance_changes_nothing() -> None:
    x = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 10
    latest = []

    def denoise(x: Tensor, sigma: float, step: Step) -> Tensor:
        latest[:] = [gaussian(x, sigma, step)]
        return latest[0]

    steps = steps_of([10.0, 3.0, 1.0, 0.2])
    ours = sample_ddim_cfgpp(denoise, x, steps, noise=no_noise, unconditioned=lambda: latest[0])
    assert torch.equal(ours, sample_ddim(gaussian, x, steps, noise=no_noise))


def test_restart_lifts_the_noise_to_where_it_starts_again() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 4, 32, 32, generator=generator) * math.sqrt(DATA_STD**2 + 100)
    pairs = [(10.0, 4.0), (4.0, 1.0), (3.0, 2.0), (2.0, 1.0), (1.0, 0.3), (0.3, 0.0)]
    steps = [Step(index, len(pairs), *pair) for index, pair in enumerate(pairs)]
    fine = []
    for step in steps:
        levels = torch.linspace(step.sigma, step.sigma_next, 40, dtype=torch.float64).tolist()
        fine += [Step(0, 1, a, b) for a, b in zip(levels, levels[1:], strict=False)]
    result = sample_restart(gaussian, x, fine, noise=lambda: torch.randn(x.shape, generator=generator))
    assert float(result.std()) == pytest.approx(DATA_STD, rel=0.03)


def test_adams_bashforth_has_the_textbook_weights() -> None:
    assert adams_bashforth([0.0], 0.0, 1.0) == pytest.approx([1.0])
    assert adams_bashforth([0.0, -1.0], 0.0, 1.0) == pytest.approx([3 / 2, -1 / 2])
    assert adams_bashforth([0.0, -1.0, -2.0, -3.0], 0.0, 1.0) == pytest.approx([55 / 24, -59 / 24, 37 / 24, -9 / 24])


def test_unipc_agrees_with_diffusers() -> None:
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(
        **BETAS, use_karras_sigmas=True, solver_order=3, solver_type="bh1", lower_order_final=False
    )
    scheduler.set_timesteps(12)
    levels = [float(sigma) for sigma in scheduler.sigmas][:-1]
    start = torch.randn(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = start.clone()
    for index, timestep in enumerate(scheduler.timesteps[:-1]):
        sigma = levels[index]
        ours = x * math.sqrt(sigma**2 + 1)
        x = scheduler.step((ours - gaussian(ours, sigma, None)) / sigma, timestep, x).prev_sample  # type: ignore[arg-type]
    steps = steps_of(levels)
    mine = sample_unipc(gaussian, start * math.sqrt(levels[0] ** 2 + 1), steps, lower_order_final=False)
    assert torch.allclose(mine, x, atol=1e-4)


def test_levels_half_way_in_log_are_float32() -> None:
    first, middle, last = halved_in_log(8.0, 2.0)
    assert (first, middle, last) == pytest.approx((8.0, 4.0, 2.0), rel=1e-6)
    assert all(float(torch.tensor(level)) == level for level in (first, middle, last))
