"""Samplers beyond A1111's, each as its paper has it; the vocabulary is that of `webui.diffusion.samplers`.

Most solve dx/dsigma = (x - x0) / sigma exactly but for x0 (or the noise eps = (x - x0) / sigma), which they take for
a polynomial in lambda = -log sigma through the predictions of the last steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from webui.core.hooks import Step
from webui.diffusion.samplers import Noise, ancestral_split

if TYPE_CHECKING:
    from webui.core.hooks import Denoise

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def exponential_weights(nodes: Sequence[float], start: float, end: float, rate: float = 1.0) -> list[float]:
    """The integrals from `start` to `end` of rate * exp(rate * (s - end)) times each Lagrange polynomial over `nodes`.

    Their sum is 1 - exp(-rate * (end - start)).
    """
    half = (end - start) / 2
    places = start + half * (_POINTS + 1)
    factors = half * _WEIGHTS * rate * np.exp(rate * (places - end))
    weights = []
    for index, node in enumerate(nodes):
        polynomial = np.ones_like(places)
        for other, place in enumerate(nodes):
            if other != index:
                polynomial = polynomial * (places - place) / (node - place)
        weights.append(float(factors @ polynomial))
    return weights


def _added(x: Tensor, weights: Iterable[float], values: Iterable[Tensor]) -> Tensor:
    for weight, value in zip(weights, values, strict=True):
        x = x + weight * value
    return x


def sample_deis(denoise: Denoise, x: Tensor, steps: Iterable[Step], *, points: int = 3) -> Tensor:
    """DEIS: the noise as a polynomial in log sigma through the last `points` predictions.

    Source: Zhang and Chen 2022, arXiv:2204.13902, tAB-DEIS in log rho.
    """
    past: list[tuple[float, Tensor]] = []  # (lambda, eps), newest first
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        if step.sigma_next == 0:
            x = x0
            continue
        now, then = -math.log(step.sigma), -math.log(step.sigma_next)
        past = [(now, (x - x0) / step.sigma), *past[: points - 1]]
        weights = exponential_weights([place for place, _ in past], now, then, rate=-1.0)
        x = _added(x, [step.sigma_next * weight for weight in weights], [eps for _, eps in past])
    return x


IPNDM_WEIGHTS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def sample_ipndm(denoise: Denoise, x: Tensor, steps: Iterable[Step]) -> Tensor:
    """iPNDM: Adams-Bashforth with the weights of even steps, from the first step on.

    Source: Zhang and Chen 2022, arXiv:2204.13902, section 3.4 (improved PNDM).
    """
    past: list[Tensor] = []
    for step in steps:
        past = [(x - denoise(x, step.sigma, step)) / step.sigma, *past[:3]]
        dt = step.sigma_next - step.sigma
        x = _added(x, [dt * weight for weight in IPNDM_WEIGHTS[len(past) - 1]], past)
    return x


def sample_res_multistep(denoise: Denoise, x: Tensor, steps: Iterable[Step], *, points: int = 2) -> Tensor:
    """RES: an exponential integrator over the last `points` x0 whose weights meet the order conditions exactly.

    Source: Zhang et al. 2023, arXiv:2308.02157, multistep scheme.
    """
    past: list[tuple[float, Tensor]] = []  # (lambda, x0), newest first
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        if step.sigma_next == 0:
            x = x0
            continue
        now, then = -math.log(step.sigma), -math.log(step.sigma_next)
        past = [(now, x0), *past[: points - 1]]
        weights = exponential_weights([place for place, _ in past], now, then)
        x = _added((step.sigma_next / step.sigma) * x, weights, [value for _, value in past])
    return x


def sample_gradient_estimation(
    denoise: Denoise, x: Tensor, steps: Iterable[Step], *, estimation_gamma: float = 2.0
) -> Tensor:
    """Euler steps along the newest noise prediction, pushed on by how it differs from the one before.

    Source: Permenter and Yuan 2023, arXiv:2306.04848, section 5 (gamma 2).
    """
    last: Tensor | None = None
    for step in steps:
        eps = (x - denoise(x, step.sigma, step)) / step.sigma
        slope = eps if last is None or step.sigma_next == 0 else last + estimation_gamma * (eps - last)
        x = x + slope * (step.sigma_next - step.sigma)
        last = eps
    return x


SA_NOISE_BETWEEN = 0.5, 5.0
"""Levels between which SA-Solver adds noise; of SD's training timesteps about 200 to 800."""


def sample_sa_solver(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    eta: float = 1.0,
    s_noise: float = 1.0,
    predictor_order: int = 3,
    corrector_order: int = 4,
    noise_between: tuple[float, float] = SA_NOISE_BETWEEN,
) -> Tensor:
    """Stochastic Adams: each step is predicted, then corrected with the prediction made at its end.

    eta: tau of the paper at levels within `noise_between`, elsewhere the step is deterministic.
    corrector_order: 0 for none. Source: Xue et al. 2023, arXiv:2309.05019, algorithm 1 with data prediction.
    """
    low, high = noise_between
    past: list[tuple[float, Tensor]] = []  # (lambda, x0), newest first
    came: tuple[Tensor, float, float] | None = None  # of the last step: shrunk start and noise, lambda, rate
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        now = -math.log(step.sigma)
        past = [(now, x0), *past[: max(predictor_order, corrector_order) - 1]]
        if came is not None and corrector_order:
            base, before, rate = came
            nodes = past[:corrector_order]
            weights = exponential_weights([place for place, _ in nodes], before, now, rate)
            x = _added(base, weights, [value for _, value in nodes])
        if step.sigma_next == 0:
            x = x0
            continue
        then = -math.log(step.sigma_next)
        tau = eta if low <= step.sigma <= high else 0.0
        base = (step.sigma_next / step.sigma) * math.exp(-(tau**2) * (then - now)) * x
        if tau:
            base = base + noise() * (step.sigma_next * math.sqrt(-math.expm1(-2 * tau**2 * (then - now))) * s_noise)
        came = base, now, 1 + tau**2
        nodes = past[:predictor_order]
        weights = exponential_weights([place for place, _ in nodes], now, then, 1 + tau**2)
        x = _added(base, weights, [value for _, value in nodes])
    return x


def er_sde_scale(sigma: np.ndarray) -> np.ndarray:
    """The noise scale that the paper found best. Source: Cui et al. 2023, arXiv:2309.06169, section 4."""
    scale: np.ndarray = sigma * (np.exp(sigma**0.3) + 10)
    return scale


def sample_er_sde(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    s_noise: float = 1.0,
    max_stage: int = 3,
    noise_scale: Callable[[np.ndarray], np.ndarray] = er_sde_scale,
) -> Tensor:
    """The extended reverse-time SDE: x0 by a Taylor series in sigma, and as much noise as `noise_scale` says.

    max_stage: derivatives of x0 that are used, plus one. A scale of sigma itself adds no noise.
    Source: Cui et al. 2023, arXiv:2309.06169, VE ER-SDE-Solver-1, -2 and -3.
    """
    past: list[tuple[float, list[Tensor]]] = []  # (sigma, x0 and its derivatives), newest first
    for step in steps:
        values = [denoise(x, step.sigma, step)]
        for order, (sigma, _) in enumerate(past, start=1):  # the n-th derivative is n! times a divided difference
            values.append((values[-1] - past[0][1][order - 1]) * (order / (step.sigma - sigma)))
        past = [(step.sigma, values), *past][: max_stage - 1]
        if step.sigma_next == 0:
            x = values[0]
            continue
        shrinks, weights = _er_sde_weights(step.sigma, step.sigma_next, len(values), noise_scale)
        x = _added(shrinks * x, weights, values)
        spread = math.sqrt(max(step.sigma_next**2 - (step.sigma * shrinks) ** 2, 0.0))
        if spread > 0:
            x = x + noise() * (spread * s_noise)
    return x


def _er_sde_weights(
    sigma: float, sigma_next: float, count: int, scale: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, list[float]]:
    """What is left of x after the step, and the factors of x0 and its derivatives by sigma."""
    start, end = math.log(sigma_next), math.log(sigma)
    half = (end - start) / 2
    levels = np.exp(start + half * (_POINTS + 1))
    ends = scale(np.array([sigma_next, sigma]))
    dt = sigma_next - sigma
    weights = [float(1 - ends[0] / ends[1])]
    for power in range(1, count):
        integral = half * _WEIGHTS @ (levels / scale(levels) * (levels - sigma) ** (power - 1))
        taylor = dt**power / math.factorial(power) + ends[0] * integral / math.factorial(power - 1)
        weights.append(float(taylor))
    return float(ends[0] / ends[1]), weights


def sample_euler_cfgpp(
    denoise: Denoise, x: Tensor, steps: Iterable[Step], *, unconditioned: Callable[[], Tensor]
) -> Tensor:
    """Euler whose noise direction is that of the prediction without the prompt.

    unconditioned: x0 of the negative prompt in the latest call.
    Source: Chung et al. 2024, arXiv:2406.08070, algorithm 2 in this scale.
    """
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        x = x0 + (x - unconditioned()) * (step.sigma_next / step.sigma)
    return x


def sample_euler_ancestral_cfgpp(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    unconditioned: Callable[[], Tensor],
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Tensor:
    """Euler a with the noise direction of CFG++. Source: Chung et al. 2024, arXiv:2406.08070."""
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        down, up = ancestral_split(step.sigma, step.sigma_next, eta)
        x = x0 + (x - unconditioned()) * (down / step.sigma)
        if up > 0:
            x = x + noise() * (s_noise * up)
    return x


def sample_dpmpp_2m_cfgpp(
    denoise: Denoise, x: Tensor, steps: Iterable[Step], *, unconditioned: Callable[[], Tensor]
) -> Tensor:
    """DPM-Solver++(2M) with the noise direction, and so the second-order term, of CFG++.

    Source: Chung et al. 2024, arXiv:2406.08070, appendix on other solvers.
    """
    last, last_h = None, 0.0
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        if step.sigma_next == 0:
            x = x0
            continue
        plain = unconditioned()
        h = math.log(step.sigma / step.sigma_next)
        x = x0 + (x - plain) * math.exp(-h)
        if last is not None:
            x = x - (plain - last) * (math.expm1(-h) * h / (2 * last_h))
        last, last_h = plain, h
    return x


def sample_tcd(
    denoise: Denoise,
    x: Tensor,
    steps: Iterable[Step],
    *,
    noise: Noise,
    level_at: Callable[[float, float], float],
    gamma: float = 0.3,
) -> Tensor:
    """Trajectory consistency: jump further down than needed, come back up with noise.

    level_at: (sigma, share) -> the level of that share of sigma's training timestep.
    gamma: 0 is deterministic, 1 jumps to x0 every time. Source: Zheng et al. 2024, arXiv:2402.19159, algorithm 4.
    """
    for step in steps:
        x0 = denoise(x, step.sigma, step)
        if step.sigma_next == 0:
            x = x0
            continue
        reached = level_at(step.sigma_next, 1 - gamma) if gamma < 1 else 0.0
        x = x0 + (x - x0) * (reached / step.sigma)
        if gamma > 0:
            x = x + noise() * math.sqrt(max(step.sigma_next**2 - reached**2, 0.0))
    return x
