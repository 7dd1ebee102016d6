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
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from webui.core.hooks import Step

if TYPE_CHECKING:
    from webui.core.hooks import Denoise

Noise = Callable[[], Tensor]
PathNoise = Callable[[float, float], Tensor]


def ancestral_split(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """(sigma_down, sigma_up): step down to sigma_down, then add noise of sigma_up to arrive at sigma_next."""
    if not eta:
        return sigma_next, 0.0
    sigma_up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
    return math.sqrt(sigma_next**2 - sigma_up**2), sigma_up


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
