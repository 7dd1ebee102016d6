"""Samplers: from noise to picture along a list of steps.

    x       (B, C, h, w), with noise of the first step's sigma
    denoise (x, sigma, step) -> x0
    steps   an iterable of Step; ending it early is legal
    noise   draws (B, C, h, w) standard normal numbers, one generator an image

lambda is -log sigma throughout. A second function of the same kind goes at the end, and one row into
webui.core.choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from webui.core.hooks import Step

if TYPE_CHECKING:
    from webui.core.hooks import Denoise

Noise = Callable[[], Tensor]
PathNoise = Callable[[float, float], Tensor]
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(4)
"""Of Gauss' quadrature: exact for polynomials up to degree 7."""


def ancestral_split(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """(sigma_down, sigma_up): step down to sigma_down, then add noise of sigma_up to arrive at sigma_next.

    Each operation is rounded to single precision, as A1111's are.
    """
    if not eta:
        return sigma_next, 0.0
    high, low = np.float32(sigma), np.float32(sigma_next)
    up = min(low, np.float32(eta) * np.sqrt(low * low * (high * high - low * low) / (high * high)))
    return float(np.sqrt(low * low - up * up)), float(up)


def churned(
    x: Tensor, step: Step, noise: Noise, s_churn: float, s_tmin: float, s_tmax: float, s_noise: float
) -> tuple[Tensor, float]:
    """x raised to a higher noise level before the step, and that level.

    Noise is drawn whether or not it is used, so that later draws don't depend on the churn range.
    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2.
    """
    gamma = min(s_churn / step.count, math.sqrt(2) - 1) if s_tmin <= step.sigma <= s_tmax else 0.0
    drawn = noise()
    raised = step.sigma * (gamma + 1)
    if gamma > 0:
        x = x + drawn * (s_noise * math.sqrt(raised**2 - step.sigma**2))
    return x, raised


def sample_euler(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """Euler's method on dx/dsigma = (x - x0) / sigma, with optional churn.

    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2 without the correction.
    """
    for step in steps:
        x, sigma = churned(x, step, noise, s_churn, s_tmin, s_tmax, s_noise)
        slope = (x - denoise(x, sigma, step)) / sigma
        x = x + slope * (step.sigma_next - sigma)
    return x


def sample_euler_ancestral(
    denoise: Denoise, x: Tensor, steps: Iterable[Step], *, noise: Noise, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """Euler steps that go lower than needed and add fresh noise to come back."""
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        down, up = ancestral_split(step.sigma, step.sigma_next, eta)
        x = x + (x - x0) / step.sigma * (down - step.sigma)
        if step.sigma_next > 0:
            x = x + noise() * (s_noise * up)
    return x


def sample_heun(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """Heun's method: an Euler step corrected by the slope at its far end; two predictions a step.

    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 2.
    """
    for step in steps:
        x, sigma = churned(x, step, noise, s_churn, s_tmin, s_tmax, s_noise)
        dt = step.sigma_next - sigma
        slope = (x - denoise(x, sigma, step)) / sigma
        ahead = x + slope * dt
        if step.sigma_next > 0:
            slope_ahead = (ahead - denoise(ahead, step.sigma_next, step)) / step.sigma_next
            ahead = x + (slope + slope_ahead) / 2 * dt
        x = ahead
    return x


def sample_dpmpp_2m(denoise: Denoise, x: Tensor, steps: Iterable[Step]) -> Tensor:
    """DPM-Solver++(2M): a second-order multistep method in lambda.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """
    last_x0, last_h = None, 0.0
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        if step.sigma_next == 0:
            x = x0
            continue
        h = math.log(step.sigma / step.sigma_next)
        target = x0
        if last_x0 is not None:
            ratio = last_h / h
            target = (1 + 1 / (2 * ratio)) * x0 - (1 / (2 * ratio)) * last_x0
        x = (step.sigma_next / step.sigma) * x - math.expm1(-h) * target
        last_x0, last_h = x0, h
    return x


def sample_dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    path_noise: PathNoise,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: str = "midpoint",
) -> Tensor:
    """SDE-DPM-Solver++(2M), the noise taken from a Brownian path.

    Source: Lu et al. 2022, arXiv:2211.01095, section 4.4 and appendix.
    """
    last_x0, last_h = None, 0.0
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        if step.sigma_next == 0:
            x = x0
            continue
        h = math.log(step.sigma / step.sigma_next)
        decay = -math.expm1(-h - eta * h)
        x = (step.sigma_next / step.sigma) * math.exp(-eta * h) * x + decay * x0
        if last_x0 is not None:
            ratio = last_h / h
            weight = decay / 2 if solver_type == "midpoint" else decay / (-h - eta * h) + 1
            x = x + (weight / ratio) * (x0 - last_x0)
        if eta:
            spread = step.sigma_next * math.sqrt(-math.expm1(-2 * eta * h)) * s_noise
            x = x + path_noise(step.sigma, step.sigma_next) * spread
        last_x0, last_h = x0, h
    return x


def sample_ddim(denoise: Denoise, x: Tensor, steps: Iterable[Step], *, noise: Noise, eta: float = 0.0) -> Tensor:
    """DDIM over the model's own timesteps; the result is in its variance-preserving scale.

    Noise is drawn at every step, used or not. Source: Song et al. 2020, arXiv:2010.02502, eq. 12 and 16.
    """
    for step in steps:
        alpha, alpha_next = 1 / (step.sigma**2 + 1), 1 / (step.sigma_next**2 + 1)
        x0 = denoise(x, step.sigma, step)
        eps = (x - x0) / step.sigma
        spread = eta * math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))
        vp = math.sqrt(alpha_next) * x0 + math.sqrt(1 - alpha_next - spread**2) * eps + spread * noise()
        x = vp / math.sqrt(alpha_next) if step.index + 1 < step.count else vp
    return x


def halved_in_log(sigma: float, sigma_next: float) -> tuple[float, float, float]:
    """Both levels by way of their logarithms in float32, and the level half way between those.

    The last digits of a level decide where on its path noise is looked up, so that they are rounded as A1111 does.
    """
    start, end = torch.tensor([sigma, sigma_next], dtype=torch.float32).log()
    first, middle, last = torch.stack([start, start + (end - start) * 0.5, end]).exp().tolist()
    return first, middle, last


def sample_dpmpp_sde(
    denoise: Denoise, x: Tensor, steps: Iterable[Step], *, path_noise: PathNoise, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """SDE-DPM-Solver++(2S): a second prediction half way in lambda, the noise from a Brownian path.

    Source: Lu et al. 2022, arXiv:2211.01095; the stochastic form of algorithm 1 with r = 1/2.
    """
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        if step.sigma_next == 0:
            x = x0
            continue
        sigma, middle, target = halved_in_log(step.sigma, step.sigma_next)
        down, up = ancestral_split(sigma, middle, eta)
        ahead = (down / sigma) * x + (1 - down / sigma) * x0
        ahead = ahead + path_noise(sigma, middle) * (s_noise * up)
        x0_ahead = denoise(ahead, middle, step)
        down, up = ancestral_split(sigma, target, eta)
        x = (down / sigma) * x + (1 - down / sigma) * x0_ahead
        x = x + path_noise(sigma, target) * (s_noise * up)
    return x


def sample_dpmpp_2s_ancestral(
    denoise: Denoise, x: Tensor, steps: Iterable[Step], *, noise: Noise, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """DPM-Solver++(2S) steps that go lower than needed and add fresh noise to come back.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 1 with r = 1/2.
    """
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        down, up = ancestral_split(step.sigma, step.sigma_next, eta)
        if down == 0:
            x = x + (x - x0) / step.sigma * (down - step.sigma)
        else:
            middle = math.sqrt(step.sigma * down)
            ahead = (middle / step.sigma) * x + (1 - middle / step.sigma) * x0
            x0_ahead = denoise(ahead, middle, step)
            x = (down / step.sigma) * x + (1 - down / step.sigma) * x0_ahead
        if step.sigma_next > 0:
            x = x + noise() * (s_noise * up)
    return x


def sample_dpmpp_3m_sde(
    denoise: Denoise, x: Tensor, steps: Iterable[Step], *, path_noise: PathNoise, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """SDE-DPM-Solver++(3M): third-order multistep in lambda, the noise from a Brownian path.

    Source: Lu et al. 2022, arXiv:2211.01095; third-order coefficients phi_2, phi_3 as in the multistep solver.
    """
    last: list[tuple[Tensor, float]] = []  # (x0, h) of the steps before, newest first
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        if step.sigma_next == 0:
            x = x0
            continue
        h = math.log(step.sigma / step.sigma_next)
        h_eta = h * (eta + 1)
        x = math.exp(-h_eta) * x - math.expm1(-h_eta) * x0
        phi_2 = math.expm1(-h_eta) / h_eta + 1
        if len(last) == 2:
            (x0_1, h_1), (x0_2, h_2) = last
            r0, r1 = h_1 / h, h_2 / h
            first, second = (x0 - x0_1) / r0, (x0_1 - x0_2) / r1
            slope = first + (first - second) * (r0 / (r0 + r1))
            curve = (first - second) / (r0 + r1)
            x = x + phi_2 * slope - (phi_2 / h_eta - 0.5) * curve
        elif last:
            x = x + phi_2 * ((x0 - last[0][0]) / (last[0][1] / h))
        if eta:
            spread = step.sigma_next * math.sqrt(-math.expm1(-2 * h * eta)) * s_noise
            x = x + path_noise(step.sigma, step.sigma_next) * spread
        last = [(x0, h), *last[:1]]
    return x


def sample_lms(denoise: Denoise, x: Tensor, steps: Iterable[Step], *, order: int = 4) -> Tensor:
    """Linear multistep (Adams-Bashforth) in sigma, up to `order` slopes with exact integrals for uneven steps."""
    slopes: list[Tensor] = []
    sigmas: list[float] = []
    for step in steps:
        slopes = [(x - denoise(x, step.sigma, step)) / step.sigma, *slopes[: order - 1]]
        sigmas = [step.sigma, *sigmas[: order - 1]]
        weights = adams_bashforth(sigmas, step.sigma, step.sigma_next)
        for weight, slope in zip(weights, slopes, strict=True):
            x = x + weight * slope
    return x


def adams_bashforth(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """The integrals from `start` to `end` of the Lagrange polynomials over `nodes`, at most 8 of them."""
    half = (end - start) / 2
    places, factors = start + half * (_POINTS + 1), half * _WEIGHTS
    weights = []
    for index, node in enumerate(nodes):
        polynomial = factors
        for other, place in enumerate(nodes):
            if other != index:
                polynomial = polynomial * (places - place) / (node - place)
        weights.append(float(polynomial.sum()))
    return weights


def sample_dpm_2(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """The midpoint method with the middle taken in log sigma, as DPM-Solver-2.

    Source: Lu et al. 2022, arXiv:2206.00927; churn by Karras et al. 2022, arXiv:2206.00364.
    """
    for step in steps:
        x, sigma = churned(x, step, noise, s_churn, s_tmin, s_tmax, s_noise)
        slope = (x - denoise(x, sigma, step)) / sigma
        if step.sigma_next > 0:
            middle = math.sqrt(sigma * step.sigma_next)
            ahead = x + slope * (middle - sigma)
            slope = (ahead - denoise(ahead, middle, step)) / middle
        x = x + slope * (step.sigma_next - sigma)
    return x


def sample_dpm_2_ancestral(
    denoise: Denoise, x: Tensor, steps: Iterable[Step], *, noise: Noise, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """DPM2 steps that go lower than needed and add fresh noise to come back."""
    for step in steps:
        slope = (x - denoise(x, step.sigma, step)) / step.sigma
        down, up = ancestral_split(step.sigma, step.sigma_next, eta)
        if down == 0:
            x = x + slope * (down - step.sigma)
            continue
        middle = math.sqrt(step.sigma * down)
        ahead = x + slope * (middle - step.sigma)
        slope = (ahead - denoise(ahead, middle, step)) / middle
        x = x + slope * (down - step.sigma) + noise() * (s_noise * up)
    return x


def sample_restart(denoise: Denoise, x: Tensor, steps: Iterable[Step], *, noise: Noise, s_noise: float = 1.0) -> Tensor:
    """Heun's method over levels that jump back up several times; noise lifts x to where it starts again.

    Source: Xu et al. 2023, arXiv:2306.14878.
    """
    level: float | None = None
    for step in steps:
        if level is not None and level < step.sigma:
            x = x + noise() * (s_noise * math.sqrt(step.sigma**2 - level**2))
        dt = step.sigma_next - step.sigma
        slope = (x - denoise(x, step.sigma, step)) / step.sigma
        if step.sigma_next > 0:
            ahead = x + slope * dt
            slope = (slope + (ahead - denoise(ahead, step.sigma_next, step)) / step.sigma_next) / 2
        x = x + slope * dt
        level = step.sigma_next
    return x


def sample_ddim_cfgpp(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    unconditioned: Callable[[], Tensor],
    eta: float = 0.0,
) -> Tensor:
    """DDIM whose noise direction is that of the prediction without the prompt.

    unconditioned: x0 of the negative prompt in the latest call. Source: Chung et al. 2024, arXiv:2406.08070.
    """
    for step in steps:
        alpha, alpha_next = 1 / (step.sigma**2 + 1), 1 / (step.sigma_next**2 + 1)
        x0 = denoise(x, step.sigma, step)
        eps = (x - unconditioned()) / step.sigma
        spread = eta * math.sqrt((1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next))
        vp = math.sqrt(alpha_next) * x0 + math.sqrt(1 - alpha_next - spread**2) * eps + spread * noise()
        x = vp / math.sqrt(alpha_next) if step.index + 1 < step.count else vp
    return x


def sample_plms(denoise: Denoise, x: Tensor, steps: Iterable[Step]) -> Tensor:
    """Pseudo linear multistep: DDIM steps along up to four averaged noise predictions.

    The first step predicts twice. The result is in the variance-preserving scale.
    Source: Liu et al. 2022, arXiv:2202.09778, eq. 12 and 13.
    """
    past: list[Tensor] = []
    for step in steps:
        eps = (x - denoise(x, step.sigma, step)) / step.sigma
        if not past:
            ahead = x + eps * (step.sigma_next - step.sigma)
            mean = (eps + (ahead - denoise(ahead, step.sigma_next, step)) / step.sigma_next) / 2
        elif len(past) == 1:
            mean = (3 * eps - past[0]) / 2
        elif len(past) == 2:
            mean = (23 * eps - 16 * past[0] + 5 * past[1]) / 12
        else:
            mean = (55 * eps - 59 * past[0] + 37 * past[1] - 9 * past[2]) / 24
        past = [eps, *past[:2]]
        x = x + mean * (step.sigma_next - step.sigma)
        if step.index + 1 == step.count:
            x = x / math.sqrt(step.sigma_next**2 + 1)
    return x


def dpm_solver_step(
    denoise: Denoise, x: Tensor, step: Step, sigma: float, target: float, order: int, eps: Tensor
) -> Tensor:
    """One DPM-Solver step of order 1, 2 or 3 in lambda from `sigma` to `target`.

    eps: the noise prediction at `sigma`.
    Source: Lu et al. 2022, arXiv:2206.00927, equations of DPM-Solver-1, -2 and -3.
    """
    h = math.log(sigma / target)
    if order == 1:
        return x - (target * math.expm1(h)) * eps
    if order == 2:
        middle = sigma * math.exp(-h / 2)
        eps_1 = _noise_at(denoise, x - (middle * math.expm1(h / 2)) * eps, middle, step)
        return x - (target * math.expm1(h)) * eps_1
    return _second_and_third_order(denoise, x, step, sigma, target, eps)[1]


def _noise_at(denoise: Denoise, x: Tensor, sigma: float, step: Step) -> Tensor:
    return (x - denoise(x, sigma, step)) / sigma


def _second_and_third_order(
    denoise: Denoise, x: Tensor, step: Step, sigma: float, target: float, eps: Tensor
) -> tuple[Tensor, Tensor]:
    """Steps of DPM-Solver-2 and -3 that share their inner points, at 1/3 and 2/3 of the way in lambda."""
    h, first, second = math.log(sigma / target), 1 / 3, 2 / 3
    level_1, level_2 = sigma * math.exp(-first * h), sigma * math.exp(-second * h)
    eps_1 = _noise_at(denoise, x - (level_1 * math.expm1(first * h)) * eps, level_1, step)
    whole = x - (target * math.expm1(h)) * eps
    low = whole - (target / (2 * first) * math.expm1(h)) * (eps_1 - eps)
    inner = math.expm1(second * h)
    point = x - (level_2 * inner) * eps - (level_2 * second / first * (inner / (second * h) - 1)) * (eps_1 - eps)
    eps_2 = _noise_at(denoise, point, level_2, step)
    return low, whole - (target / second * (math.expm1(h) / h - 1)) * (eps_2 - eps)


def _bounded_split(sigma: float, sigma_next: float, eta: float, lowest: float) -> tuple[float, float]:
    """`ancestral_split` that goes no lower than `lowest`."""
    down = max(ancestral_split(sigma, sigma_next, eta)[0], lowest)
    return down, math.sqrt(max(sigma_next**2 - down**2, 0.0))


def sample_dpm_fast(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    calls: int,
    lowest: float,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """DPM-Solver of third order with a fixed number of network calls; lower orders at the end use up the rest.

    steps: calls // 3 + 1 of them, even in lambda, down to the level `lowest`.
    Source: Lu et al. 2022, arXiv:2206.00927, section 3.4.
    """
    for step in steps:
        left = step.count - step.index
        order = 3 if left > 2 or (left == 2 and calls % 3) else 2 if left == 2 else calls % 3 or 1
        down, up = _bounded_split(step.sigma, step.sigma_next, eta, lowest)
        eps = _noise_at(denoise, x, step.sigma, step)
        x = dpm_solver_step(denoise, x, step, step.sigma, down, order, eps) + noise() * (up * s_noise)
    return x


def sample_dpm_adaptive(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    eta: float = 1.0,
    s_noise: float = 1.0,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    accept_safety: float = 0.81,
) -> Tensor:
    """DPM-Solver of second and third order; their difference sets the size of the steps.

    steps: one for each attempt, each over the whole range; as many as are needed are taken.
    Source: Lu et al. 2022, arXiv:2206.00927, appendix C (DPM-Solver-23 adaptive).
    """
    order = 1.5 if eta else 3.0
    h, last_low, sigma = h_init, x, 0.0
    for step in steps:
        sigma = sigma or step.sigma
        lowest = step.sigma_next
        if math.log(sigma / lowest) <= 1e-5:
            break
        target = max(sigma * math.exp(-h), lowest)
        down, up = _bounded_split(sigma, target, eta, lowest)
        eps = _noise_at(denoise, x, sigma, step)
        low, high = _second_and_third_order(denoise, x, step, sigma, down, eps)
        tolerance = (rtol * torch.maximum(low.abs(), last_low.abs())).clamp_min(atol)
        error = float(((low - high) / tolerance).norm()) / math.sqrt(x.numel())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / order) - 1)
        h *= factor
        if factor >= accept_safety:
            last_low = low
            x = high + noise() * (up * s_noise)
            sigma = target
    return x


def sample_lcm(denoise: Denoise, x: Tensor, steps: Iterable[Step], *, noise: Noise) -> Tensor:
    """Jump to the prediction, add noise of the next level. Source: Luo et al. 2023, arXiv:2310.04378, algorithm 3."""
    for step in steps:
        x = denoise(x, step.sigma, step)
        if step.sigma_next > 0:
            x = x + noise() * step.sigma_next
    return x


def sample_unipc(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    order: int = 3,
    variant: str = "bh1",
    lower_order_final: bool = True,
) -> Tensor:
    """UniPC over x0 predictions: each prediction also corrects the step that led to it.

    The result is in the variance-preserving scale. variant: "bh1", "bh2" or "vary_coeff".
    Source: Zhao et al. 2023, arXiv:2302.04867, algorithms 5 to 8.
    """
    past: list[tuple[Tensor, float]] = []  # (x0, sigma) of the points behind, newest first
    vp, came_from, came_order = x, x, 0
    for step in steps:
        scale = 1 / math.sqrt(step.sigma**2 + 1)
        vp = x * scale if not past else vp
        x0 = denoise(vp / scale, step.sigma, step)
        if past:
            vp = _unipc_update(came_from, past[:came_order], step.sigma, variant, x0)
        past = [(x0, step.sigma), *past[: order - 1]]
        came_from, came_order = vp, min(step.index + 1, order)
        if lower_order_final:
            came_order = min(came_order, step.count - step.index)
        vp = _unipc_update(vp, past[:came_order], step.sigma_next, variant, None)
    return vp if past else x


def _unipc_update(
    x: Tensor, past: Sequence[tuple[Tensor, float]], sigma: float, variant: str, x0: Tensor | None
) -> Tensor:
    """x in the variance-preserving scale, from past[0]'s level to `sigma`: predicted, or corrected with x0 there."""
    (base, sigma_0), older = past[0], past[1:]
    alpha = 1 / math.sqrt(sigma**2 + 1)
    h = math.log(sigma_0 / sigma)
    ratios = [-math.log(level / sigma_0) / h for _, level in older] + [1.0]
    differences = [(value - base) / ratio for (value, _), ratio in zip(older, ratios, strict=False)]
    if x0 is not None:
        differences.append(x0 - base)
    moved = (sigma * alpha) / (sigma_0 / math.sqrt(sigma_0**2 + 1)) * x - (alpha * math.expm1(-h)) * base
    if differences:
        weights = _unipc_weights(ratios[: len(differences)], -h, variant, corrects=x0 is not None)
        for weight, difference in zip(weights, differences, strict=True):
            moved = moved - (alpha * weight) * difference
    return moved


def _unipc_weights(ratios: Sequence[float], hh: float, variant: str, *, corrects: bool) -> list[float]:
    """What each difference counts, up to alpha. hh: minus the step in lambda.

    They solve sum of weight * ratio^k = (k + 1)! phi_k; the bh variants take half a step for a single difference.
    The corrector of vary_coeff, as published and as A1111 runs it, leaves the last equation to the newest
    difference alone.
    """
    count = len(ratios)
    if count == 1 and variant != "vary_coeff":
        return [(hh if variant == "bh1" else math.expm1(hh)) / 2]
    phi = [math.expm1(hh) / hh - 1]
    for power in range(2, count + 1):
        phi.append(phi[-1] / hh - 1 / math.factorial(power))
    powers = np.stack([np.array(ratios) ** power / math.factorial(power + 1) for power in range(count)])
    if variant != "vary_coeff" or not corrects or count == 1:
        return [float(weight) for weight in np.linalg.solve(powers, np.array(phi))]
    solver = np.linalg.inv(powers)
    older = solver[:-1, :-1] @ np.array(phi[:-1])
    return [*(float(weight) for weight in older), float(phi[-1] * solver[-1, -2])]
