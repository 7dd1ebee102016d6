"""Noise levels: the model's own table, and the schedules a sampler walks through.

`sigma` is the noise level in x = x0 + sigma * noise; alpha-bar = 1 / (sigma^2 + 1).
A schedule returns float64 on the CPU, never increasing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from webui.core.choices import Scheduler, load_function

ZERO_SNR_LAST_ALPHA_BAR = 4.8973451890853435e-08
"""What stands for 0 in the last entry of a zero-terminal-SNR table, so that its sigma is finite."""


@dataclass(frozen=True)
class NoiseTable:
    """The noise levels a model was trained on.

    alphas_cumprod: (T,) alpha-bar of each training timestep, falling.
    quantize: `timestep` rounds to the nearest entry instead of interpolating.
    """

    alphas_cumprod: Tensor
    quantize: bool = False

    @cached_property
    def sigmas(self) -> Tensor:
        """(T,) float64, rising."""
        alphas = self.alphas_cumprod.double()
        return ((1 - alphas) / alphas).sqrt()

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
        log_sigma = math.log(sigma)
        if self.quantize:
            return float((self.log_sigmas - log_sigma).abs().argmin())
        low = int(torch.searchsorted(self.log_sigmas, log_sigma, right=True)) - 1
        low = min(max(low, 0), len(self.log_sigmas) - 2)
        log_low, log_high = float(self.log_sigmas[low]), float(self.log_sigmas[low + 1])
        weight = min(max((log_low - log_sigma) / (log_low - log_high), 0.0), 1.0)
        return (1 - weight) * low + weight * (low + 1)

    def sigmas_at(self, timesteps: Tensor) -> Tensor:
        """Noise levels of (fractional) timesteps, linear in log sigma between the table's entries."""
        timesteps = timesteps.double()
        low, high = timesteps.floor().long(), timesteps.ceil().long()
        return torch.lerp(self.log_sigmas[low], self.log_sigmas[high], timesteps.frac()).exp()

    def zero_terminal_snr(self) -> NoiseTable:
        """The table shifted and scaled so that its last entry is (almost) pure noise.

        Source: Lin et al. 2023, arXiv:2305.08891, algorithm 1.
        """
        roots = self.alphas_cumprod.sqrt()
        first, last = roots[0].clone(), roots[-1].clone()
        alphas = ((roots - last) * (first / (first - last))).square()
        alphas[-1] = ZERO_SNR_LAST_ALPHA_BAR
        return NoiseTable(alphas, self.quantize)

    def downcast(self) -> NoiseTable:
        """The table with alpha-bar rounded to fp16, as old versions of the original program had it."""
        return NoiseTable(self.alphas_cumprod.half().float(), self.quantize)


def scaled_linear_alphas_cumprod(start: float = 0.00085, end: float = 0.0120, count: int = 1000) -> Tensor:
    """Alpha-bar of betas whose square roots are even between those of `start` and `end`: (count,) float32."""
    betas = torch.linspace(math.sqrt(start), math.sqrt(end), count, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()


def with_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def uniform_sigmas(count: int, sigma_min: float, sigma_max: float, *, table: NoiseTable) -> Tensor:
    """Even in the training timestep, over the whole table (the limits are the table's), then 0."""
    return with_zero(table.sigmas_at(torch.linspace(len(table.sigmas) - 1, 0, count, dtype=torch.float64)))


def karras_sigmas(count: int, sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> Tensor:
    """Noise levels even in sigma^(1/rho), from sigma_max down to sigma_min, then 0.

    Returns: (count + 1,). Raises: ValueError unless count >= 1 and 0 < sigma_min <= sigma_max.
    Source: Karras et al. 2022, arXiv:2206.00364, eq. 5.
    """
    _check_range(count, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, count, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return with_zero((high + ramp * (low - high)) ** rho)


def exponential_sigmas(count: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Noise levels even in log sigma, from sigma_max down to sigma_min, then 0. Returns: (count + 1,)."""
    _check_range(count, sigma_min, sigma_max)
    return with_zero(torch.linspace(math.log(sigma_max), math.log(sigma_min), count, dtype=torch.float64).exp())


def _check_range(count: int, sigma_min: float, sigma_max: float) -> None:
    if count < 1 or not 0 < sigma_min <= sigma_max:
        raise ValueError(f"need count >= 1 and 0 < sigma_min <= sigma_max, got {count=}, {sigma_min=}, {sigma_max=}")


@dataclass(frozen=True)
class ScheduleOptions:
    """What a request or the settings change about a schedule; 0 leaves the model's own value.

    old_range: sigma from 10 to 0.1, as the first Karras schedules had it.
    discard_next_to_last: one level more is computed and the one before the final 0 dropped.
    """

    sigma_min: float = 0.0
    sigma_max: float = 0.0
    rho: float = 0.0
    old_range: bool = False
    discard_next_to_last: bool = False


def sigmas_for(scheduler: Scheduler, count: int, table: NoiseTable, options: ScheduleOptions) -> Tensor:
    """The levels of `count` steps: (count + 1,) for most schedules, ending in 0.

    `scheduler` is resolved: Automatic here means the model's uniform schedule.
    """
    low, high = (0.1, 10.0) if options.old_range else (table.sigma_min, table.sigma_max)
    arguments: dict[str, Any] = {}
    function = load_function(scheduler.function) if scheduler.function else uniform_sigmas
    if scheduler.function is None or scheduler.need_inner_model:
        arguments["table"] = table
    if scheduler.function is not None:
        low, high = options.sigma_min or low, options.sigma_max or high
        if scheduler.default_rho > 0 and options.rho:
            arguments["rho"] = options.rho
    count += options.discard_next_to_last
    sigmas: Tensor = function(count, low, high, **arguments)
    if options.discard_next_to_last:
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    return sigmas


def ddim_timesteps(count: int, train_steps: int = 1000) -> list[int]:
    """Ascending integer timesteps of DDIM and its relatives; may hold more than `count` entries."""
    return [min(step + 1, train_steps - 1) for step in range(0, train_steps, max(train_steps // count, 1))]


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
    return shown
