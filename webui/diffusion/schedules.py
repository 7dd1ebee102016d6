"""Noise levels: the model's own table, and the schedules a sampler walks through.

`sigma` is the noise level in x = x0 + sigma * noise; alpha-bar = 1 / (sigma^2 + 1).
A schedule returns float32 on the CPU, never increasing. Its last digits matter: SDE samplers look their noise up by
the level, to six decimals, so that all is computed in float32 and in the order of operations of A1111.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from webui.core.capabilities import SD1_LEVELS
from webui.core.choices import Scheduler, load_function

ZERO_SNR_LAST_ALPHA_BAR = 4.8973451890853435e-08
"""What stands for 0 in the last entry of a zero-terminal-SNR table, so that its sigma is finite."""


@dataclass(frozen=True)
class NoiseTable:
    """The noise levels a model was trained on.

    alphas_cumprod: (T,) alpha-bar of each training timestep, falling.
    quantize: `timestep` rounds to the nearest entry instead of interpolating.
    published: the levels of "Align Your Steps" for the model.
    """

    alphas_cumprod: Tensor
    quantize: bool = False
    published: tuple[float, ...] = SD1_LEVELS

    @cached_property
    def sigmas(self) -> Tensor:
        """(T,) float32, rising."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().float()

    @cached_property
    def log_sigmas(self) -> Tensor:
        return self.sigmas.log()

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    def timestep(self, sigma: float) -> float:
        """The (fractional) training timestep of a noise level, linear in log sigma."""
        log_sigma = torch.tensor(sigma, dtype=torch.float32).log()
        if self.quantize:
            return float((self.log_sigmas - log_sigma).abs().argmin())
        low = int(torch.searchsorted(self.log_sigmas, log_sigma, right=True)) - 1
        low = min(max(low, 0), len(self.log_sigmas) - 2)
        log_low, log_high = self.log_sigmas[low : low + 2]
        weight = ((log_low - log_sigma) / (log_low - log_high)).clamp(0, 1)
        return float((1 - weight) * low + weight * (low + 1))

    def told(self, sigma: float) -> float:
        """What the network is told at a noise level: the training timestep."""
        return self.timestep(sigma)

    def picture(self, sigma: float) -> float:
        """How much of the clean latent is left in x at a noise level: x = picture * x0 + sigma * noise."""
        return 1.0

    def sigmas_at(self, timesteps: Tensor) -> Tensor:
        """Noise levels of (fractional) timesteps, linear in log sigma between the table's entries."""
        low, high, weight = timesteps.floor().long(), timesteps.ceil().long(), timesteps.frac()
        return ((1 - weight) * self.log_sigmas[low] + weight * self.log_sigmas[high]).exp()

    def level_at(self, sigma: float, share: float) -> float:
        """The noise level of a whole training timestep, `share` (0..1) of the one of `sigma`."""
        timestep = math.floor(self.timestep(sigma) * share + 1e-3)  # float32 may be a little below a whole number
        return float(self.sigmas_at(torch.tensor([timestep], dtype=torch.float32))[0])

    def zero_terminal_snr(self) -> NoiseTable:
        """The table shifted and scaled so that its last entry is (almost) pure noise.

        Source: Lin et al. 2023, arXiv:2305.08891, algorithm 1.
        """
        roots = self.alphas_cumprod.sqrt()
        first, last = roots[0].clone(), roots[-1].clone()
        alphas = ((roots - last) * (first / (first - last))).square()
        alphas[-1] = ZERO_SNR_LAST_ALPHA_BAR
        return replace(self, alphas_cumprod=alphas)

    def downcast(self) -> NoiseTable:
        """The table with alpha-bar rounded to fp16, as old versions of the original program had it."""
        return replace(self, alphas_cumprod=self.alphas_cumprod.half().float())


class ConsistencyTable(NoiseTable):
    """The noise levels of latent consistency models: every twentieth of the training ones, met exactly.

    Source: Luo et al. 2023, arXiv:2310.04378, section 4.3 (skipping 20 steps).
    """

    SKIP = 20

    @classmethod
    def of(cls, table: NoiseTable) -> ConsistencyTable:
        return cls(table.alphas_cumprod[cls.SKIP - 1 :: cls.SKIP], published=table.published)

    def timestep(self, sigma: float) -> float:
        nearest = int((self.log_sigmas - math.log(sigma)).abs().argmin())
        return float(nearest * self.SKIP + self.SKIP - 1)

    def sigmas_at(self, timesteps: Tensor) -> Tensor:
        """As `NoiseTable.sigmas_at`, between the entries that are left."""
        places = (timesteps - (self.SKIP - 1)) / self.SKIP
        return super().sigmas_at(places.clamp(0, len(self.sigmas) - 1))


class FlowTable(NoiseTable):
    """The noise levels of a flow: x = (1 - sigma) * x0 + sigma * noise, with sigma up to 1.

    alphas_cumprod holds the picture's share of the variance. The table is what the model was trained on; neither
    rounding nor a zero terminal SNR, which it has already, change it.
    Source: Esser et al. 2024, arXiv:2403.03206, eq. 13 and 23.
    """

    @classmethod
    def of(cls, shift: float, count: int = 1000) -> FlowTable:
        """shift: how far large pictures' levels lean towards noise; 1 spaces them evenly."""
        even = torch.arange(1, count + 1, dtype=torch.float64) / count
        sigmas = shift * even / (1 + (shift - 1) * even)
        shares = (1 - sigmas).square() / ((1 - sigmas).square() + sigmas.square())
        return cls(shares, published=())

    @cached_property
    def sigmas(self) -> Tensor:
        picture, noise = self.alphas_cumprod.sqrt(), (1 - self.alphas_cumprod).sqrt()
        return (noise / (picture + noise)).float()

    def told(self, sigma: float) -> float:
        return len(self.sigmas) * sigma

    def picture(self, sigma: float) -> float:
        return 1 - sigma

    def zero_terminal_snr(self) -> FlowTable:
        return self

    def downcast(self) -> FlowTable:
        return self


class EdmTable(NoiseTable):
    """Levels even in log sigma between two limits, of which the network is told a quarter of the logarithm.

    Source: Karras et al. 2022, arXiv:2206.00364, table 1 (EDM column, c_noise).
    """

    @classmethod
    def of(cls, sigma_min: float, sigma_max: float, count: int = 1000) -> EdmTable:
        sigmas = torch.linspace(math.log(sigma_min), math.log(sigma_max), count, dtype=torch.float64).exp()
        return cls(1 / (1 + sigmas.square()), published=())

    def told(self, sigma: float) -> float:
        return math.log(sigma) / 4

    def zero_terminal_snr(self) -> EdmTable:
        return self

    def downcast(self) -> EdmTable:
        return self


def scaled_linear_alphas_cumprod(start: float = 0.00085, end: float = 0.0120, count: int = 1000) -> Tensor:
    """Alpha-bar of betas whose square roots are even between those of `start` and `end`: (count,) float32."""
    betas = torch.linspace(math.sqrt(start), math.sqrt(end), count, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()


def with_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def uniform_sigmas(count: int, sigma_min: float, sigma_max: float, *, table: NoiseTable) -> Tensor:
    """Even in the training timestep, over the whole table (the limits are the table's), then 0."""
    start, end = table.timestep(table.sigma_max), table.timestep(table.sigma_min)
    return with_zero(table.sigmas_at(torch.linspace(start, end, count)))


def karras_sigmas(count: int, sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> Tensor:
    """Noise levels even in sigma^(1/rho), from sigma_max down to sigma_min, then 0.

    Returns: (count + 1,). Raises: ValueError unless count >= 1 and 0 < sigma_min <= sigma_max.
    Source: Karras et al. 2022, arXiv:2206.00364, eq. 5.
    """
    _check_range(count, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, count)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return with_zero((high + ramp * (low - high)) ** rho)


def exponential_sigmas(count: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels even in log sigma, from sigma_max down to sigma_min, then 0. Returns: (count + 1,)."""
    _check_range(count, sigma_min, sigma_max)
    return with_zero(torch.linspace(math.log(sigma_max), math.log(sigma_min), count).exp())


def polyexponential_sigmas(count: int, sigma_min: float, sigma_max: float, *, rho: float = 1.0) -> Tensor:
    """Log sigma falling by the power `rho` of an even ramp, then 0; rho 1 is exponential. Returns: (count + 1,)."""
    _check_range(count, sigma_min, sigma_max)
    ramp = torch.linspace(1, 0, count) ** rho
    return with_zero((ramp * (math.log(sigma_max) - math.log(sigma_min)) + math.log(sigma_min)).exp())


def sgm_uniform_sigmas(count: int, sigma_min: float, sigma_max: float, *, table: NoiseTable) -> Tensor:
    """Even in the training timestep without its last one, as Stability's generative-models steps; then 0."""
    start, end = table.timestep(sigma_max), table.timestep(sigma_min)
    return with_zero(table.sigmas_at(torch.linspace(start, end, count + 1)[:-1]))


def normal_sigmas(count: int, sigma_min: float, sigma_max: float, *, table: NoiseTable) -> Tensor:
    """Even in the training timestep between the limits, then 0."""
    start, end = table.timestep(sigma_max), table.timestep(sigma_min)
    return with_zero(table.sigmas_at(torch.linspace(start, end, count)))


def simple_sigmas(count: int, sigma_min: float, sigma_max: float, *, table: NoiseTable) -> Tensor:
    """Every (T / count)-th entry of the table from its end, then 0; the limits are the table's."""
    total = len(table.sigmas)
    return with_zero(table.sigmas[[total - 1 - int(index * total / count) for index in range(count)]])


def ddim_uniform_sigmas(count: int, sigma_min: float, sigma_max: float, *, table: NoiseTable) -> Tensor:
    """The levels of DDIM's evenly spaced timesteps, then 0; may hold more than `count`."""
    spacing = max(len(table.sigmas) // count, 1)
    return with_zero(table.sigmas[1::spacing].flip(0))


def kl_optimal_sigmas(count: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Even in arctan sigma from sigma_max to sigma_min; no 0 follows. Returns: (count + 1,).

    Source: Sabour et al. 2024, arXiv:2404.14507, eq. for the optimal schedule of a Gaussian.
    """
    low, high = torch.tensor([sigma_min, sigma_max]).arctan()
    share = torch.arange(count + 1) / count
    return torch.tan(share * low + (1 - share) * high)


def align_your_steps_sigmas(
    count: int, sigma_min: float, sigma_max: float, *, levels: Sequence[float] = SD1_LEVELS
) -> Tensor:
    """The published levels, interpolated in log sigma to `count`, then 0; the limits are the published ones."""
    known = np.log(np.array(levels[::-1]))
    places = np.linspace(0, 1, len(known))
    between = np.exp(np.interp(np.linspace(0, 1, count), places, known))[::-1].copy()
    return with_zero(torch.from_numpy(between if count != len(known) else np.array(levels)).float())


def beta_sigmas(count: int, sigma_min: float, sigma_max: float, *, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    """Levels at even quantiles of a beta distribution over sigma, then 0.

    Source: Lee et al. 2024, arXiv:2407.12173.
    """
    from scipy.stats import beta as distribution

    _check_range(count, sigma_min, sigma_max)
    quantiles = distribution.ppf(1 - np.linspace(0, 1, count), alpha, beta)
    return with_zero(torch.from_numpy(sigma_min + quantiles * (sigma_max - sigma_min)).float())


def _check_range(count: int, sigma_min: float, sigma_max: float) -> None:
    if count < 1 or not 0 < sigma_min <= sigma_max:
        raise ValueError(f"need count >= 1 and 0 < sigma_min <= sigma_max, got {count=}, {sigma_min=}, {sigma_max=}")


@dataclass(frozen=True)
class ScheduleOptions:
    """What a request or the settings change about a schedule; 0 leaves the model's own value.

    alpha, beta: shape of the Beta schedule.
    old_range: sigma from 10 to 0.1, as the first Karras schedules had it.
    discard_next_to_last: one level more is computed and the one before the final 0 dropped.
    """

    sigma_min: float = 0.0
    sigma_max: float = 0.0
    rho: float = 0.0
    alpha: float = 0.6
    beta: float = 0.6
    old_range: bool = False
    discard_next_to_last: bool = False


def sigmas_for(scheduler: Scheduler, count: int, table: NoiseTable, options: ScheduleOptions) -> Tensor:
    """The levels of `count` steps: (count + 1,) for most schedules, ending in 0.

    `scheduler` is resolved: Automatic here means the model's uniform schedule.
    """
    low, high = (0.1, 10.0) if options.old_range else (table.sigma_min, table.sigma_max)
    arguments: dict[str, Any] = {}
    function = load_function(scheduler.function) if scheduler.function else uniform_sigmas
    if "table" in inspect.signature(function).parameters:
        arguments["table"] = table
    if "levels" in inspect.signature(function).parameters:
        arguments["levels"] = table.published
    if scheduler.function is not None:
        low, high = options.sigma_min or low, options.sigma_max or high
        if scheduler.default_rho > 0 and options.rho:
            arguments["rho"] = options.rho
        if scheduler.name == "beta":
            arguments |= {"alpha": options.alpha, "beta": options.beta}
    count += options.discard_next_to_last
    sigmas: Tensor = function(count, low, high, **arguments)
    if options.discard_next_to_last:
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    return sigmas


def ddim_timesteps(count: int, train_steps: int = 1000) -> list[int]:
    """Ascending integer timesteps of DDIM and its relatives; may hold more than `count` entries."""
    return [min(step + 1, train_steps - 1) for step in range(0, train_steps, max(train_steps // count, 1))]


@dataclass(frozen=True)
class UniPCClock:
    """UniPC's own time t in (0, 1], in which log alpha is piecewise linear between the training timesteps.

    Source: Zhao et al. 2023, arXiv:2302.04867, and the discrete schedule of DPM-Solver, arXiv:2206.00927, app. D.
    """

    table: NoiseTable

    def log_alpha(self, t: np.ndarray) -> np.ndarray:
        """log of the signal's scale, continued beyond the ends by the outermost pieces."""
        known = self.table.alphas_cumprod.double().log().numpy() / 2
        return _piecewise(t, np.arange(1, len(known) + 1) / len(known), known)

    def times(self, count: int, skip_type: str, start: float = 1.0) -> np.ndarray:
        """(count + 1,) from `start` down to the first training timestep.

        skip_type: "time_uniform", "time_quadratic", or "logSNR" (even in log of the signal-to-noise ratio).
        """
        end = 1 / len(self.table.alphas_cumprod)
        if skip_type == "time_uniform":
            return np.linspace(start, end, count + 1)
        if skip_type == "time_quadratic":
            return np.linspace(math.sqrt(start), math.sqrt(end), count + 1) ** 2
        ends = self.log_alpha(np.array([start, end]))
        ratios = ends - np.log(-np.expm1(2 * ends)) / 2
        log_alphas = -np.logaddexp(0, -2 * np.linspace(ratios[0], ratios[1], count + 1)) / 2
        known = self.table.alphas_cumprod.double().log().numpy() / 2
        return _piecewise(log_alphas, known[::-1], (np.arange(1, len(known) + 1) / len(known))[::-1])

    def sigmas(self, times: np.ndarray) -> Tensor:
        """Noise levels at these times."""
        return torch.from_numpy(np.sqrt(np.expm1(-2 * self.log_alpha(times))))

    def timesteps(self, times: np.ndarray) -> list[float]:
        """What the network is told at these times."""
        total = len(self.table.alphas_cumprod)
        return [float(time) for time in (times - 1 / total) * total]


def _piecewise(x: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Linear interpolation over rising `places`, with the outermost pieces going on beyond the ends."""
    piece = np.clip(np.searchsorted(places, x, side="right") - 1, 0, len(places) - 2)
    share = (x - places[piece]) / (places[piece + 1] - places[piece])
    result: np.ndarray = values[piece] + share * (values[piece + 1] - values[piece])
    return result


RESTART_FROM, RESTART_TO = 0.1, 2.0
"""Reaching the first level, Restart jumps back up to the second."""


def restarted(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """(sigma, sigma_next) of each step of Restart: fewer steps down, and some of them again from higher up.

    pairs: of the plain way down. With fewer than 20 steps nothing is repeated.
    Source: Xu et al. 2023, arXiv:2306.14878, with A1111's choice of levels.
    """
    steps = len(pairs)
    if steps < 20:
        return list(pairs)
    inner, times = (steps // 4, 2) if steps >= 36 else (9, 1)
    high, low = pairs[0][0], pairs[-1][0]
    levels = karras_sigmas(steps - inner * times, low, high).tolist()
    positive = np.array(levels[:-1])
    lowest = int(np.abs(positive - RESTART_FROM).argmin())
    highest = int(np.abs(positive - RESTART_TO).argmin())
    walk = []
    for index, pair in enumerate(itertools.pairwise(levels)):
        walk.append(pair)
        if index + 1 == lowest and highest < lowest:
            again = karras_sigmas(inner + 1, levels[lowest], levels[highest]).tolist()[:-1]
            walk += list(itertools.pairwise(again)) * times
    return walk


def shown_options(scheduler: Scheduler, table: NoiseTable, options: ScheduleOptions) -> Mapping[str, float]:
    """The infotext entries of schedule options that differ from the model's own values."""
    if scheduler.function is None:
        return {}
    shown: dict[str, float] = {}
    if options.sigma_min and options.sigma_min != table.sigma_min:
        shown["Schedule min sigma"] = options.sigma_min
    if options.sigma_max and options.sigma_max != table.sigma_max:
        shown["Schedule max sigma"] = options.sigma_max
    if scheduler.default_rho > 0 and options.rho and options.rho != scheduler.default_rho:
        shown["Schedule rho"] = options.rho
    if scheduler.name == "beta":
        shown |= {"Beta schedule alpha": options.alpha, "Beta schedule beta": options.beta}
    return shown
