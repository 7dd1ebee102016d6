"""The noise levels of a pass, the steps over them, and latents made larger for the second one."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from webui.core.choices import LATENT_UPSCALERS, Sampler, load_function
from webui.core.errors import InvalidRequest
from webui.core.hooks import Step
from webui.core.settings import Settings
from webui.diffusion.schedules import (
    ConsistencyTable,
    NoiseTable,
    ScheduleOptions,
    UniPCClock,
    ddim_timesteps,
    exponential_sigmas,
    restarted,
    sigmas_for,
)
from webui.planning.plan import HiresPlan, SamplingPlan


@dataclass(frozen=True)
class Levels:
    """The noise levels one pass runs through.

    sigmas: (n + 1,), full: the whole schedule that `sigmas` may be the end of.
    The first x is picture * (clean latents) + noise * (unit noise).
    timesteps: (n + 1,) what the network is told at each level; None leaves that to the model's table.
    """

    sigmas: Tensor
    full: Tensor
    noise: float
    picture: float = 0.0
    timesteps: Sequence[float] | None = None

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """(sigma, sigma_next) of each step."""
        return list(itertools.pairwise(self.sigmas.tolist()))


def noise_table(levels: NoiseTable, settings: Settings) -> NoiseTable:
    """The model's noise levels with the settings' changes."""
    table = replace(levels, quantize=settings["enable_quantization"])
    if settings["use_downcasted_alpha_bar"]:
        table = table.downcast()
    if settings["sd_noise_schedule"] == "Zero Terminal SNR":
        table = table.zero_terminal_snr()
    return table


def sampled_table(levels: NoiseTable, plan: SamplingPlan, settings: Settings) -> NoiseTable:
    """Noise levels that a network was trained on, as settings and sampler have them in a pass."""
    table = noise_table(levels, settings)
    return ConsistencyTable.of(table) if plan.sampler.consistency else table


def schedule_options(plan: SamplingPlan, settings: Settings) -> ScheduleOptions:
    return ScheduleOptions(
        sigma_min=settings["sigma_min"],
        sigma_max=settings["sigma_max"],
        rho=settings["rho"],
        alpha=settings["beta_dist_alpha"],
        beta=settings["beta_dist_beta"],
        old_range=settings["use_old_karras_scheduler_sigmas"],
        discard_next_to_last=plan.sampler.discard_next_to_last_sigma or settings["always_discard_next_to_last_sigma"],
    )


def levels(plan: SamplingPlan, table: NoiseTable, settings: Settings) -> Levels:
    """The levels of a pass: all of them from noise, the last part when it starts from a picture."""
    if plan.schedule_steps == 0:
        nothing = torch.zeros(1, dtype=torch.float64)
        return Levels(nothing, nothing, noise=0.0, picture=1.0)
    if plan.sampler.timesteps:
        return _timestep_levels(plan, table, settings)
    full = sigmas_for(plan.schedule, plan.schedule_steps, table, schedule_options(plan, settings))
    if table.picture(float(full[0])) < 0:
        raise InvalidRequest(
            f"The schedule begins at noise level {float(full[0]):g}, beyond the model's {table.sigma_max:g}; reset the "
            "schedule's limits in the settings (sigma max, old Karras scheduler sigmas)."
        )
    if plan.denoise is not None:
        sigmas = full[plan.schedule_steps - plan.walked_steps :]
        return Levels(sigmas, full, noise=float(sigmas[0]), picture=table.picture(float(sigmas[0])))
    first = float(full[0])
    return Levels(
        full, full, noise=math.hypot(table.picture(first), first) if settings["sgm_noise_multiplier"] else first
    )


def _timestep_levels(plan: SamplingPlan, table: NoiseTable, settings: Settings) -> Levels:
    """Levels of a sampler in the variance-preserving scale, where x begins with noise of standard deviation 1."""
    timesteps = ddim_timesteps(plan.schedule_steps, len(table.sigmas))
    kept, entry = timesteps, None
    if plan.denoise is not None:
        last = min(plan.walked_steps - 1, len(timesteps) - 1)
        kept, entry = timesteps[: max(last, 1)], float(table.sigmas[timesteps[last]])
    sigmas, told = table.sigmas[kept].flip(0), None
    if plan.sampler.walk == "unipc":
        clock = UniPCClock(table)
        start = 1.0 if entry is None else (kept[-1] + 1) / len(table.sigmas)
        times = clock.times(len(kept), settings["uni_pc_skip_type"], start)
        sigmas, told = clock.sigmas(times), clock.timesteps(times)
    first = math.sqrt(float(sigmas[0]) ** 2 + 1)
    if entry is None:
        return Levels(sigmas, sigmas, noise=first, timesteps=told)
    picture = first / math.sqrt(entry**2 + 1)
    return Levels(sigmas, sigmas, noise=picture * entry, picture=picture, timesteps=told)


class Attempts(Sequence[Step]):
    """Steps over the whole range, as many as a sampler asks for; their number is only what progress expects."""

    def __init__(self, high: float, low: float, expected: int) -> None:
        self.step = Step(0, expected, high, low)

    def __len__(self) -> int:
        return self.step.count

    def __getitem__(self, index: Any) -> Any:
        return self.step


def steps_of(plan: SamplingPlan, walked: Levels, table: NoiseTable) -> Sequence[Step]:
    """The steps that the plan's sampler takes over the levels."""
    pairs, walk = walked.pairs, plan.sampler.walk
    if walk in ("fast", "adaptive"):
        high, low = (table.sigma_max, table.sigma_min) if plan.denoise is None else (pairs[0][0], pairs[-1][0])
        if walk == "adaptive":
            return Attempts(high, low, len(pairs))
        levels = exponential_sigmas(len(pairs) // 3 + 2, low, high)[:-1]
        pairs = list(itertools.pairwise(levels.tolist()))
    elif walk == "restart":
        pairs = restarted(pairs)
    told = walked.timesteps
    return [Step(index, len(pairs), *pair, told[index] if told else None) for index, pair in enumerate(pairs)]


def takes_eta(sampler: Sampler) -> bool:
    """Whether the sampler's function has an `eta`."""
    return "eta" in inspect.signature(load_function(sampler.function)).parameters


def upscaled(latents: Tensor, hires: HiresPlan) -> Tensor:
    """(B, C, h, w) interpolated to the plan's upscaled size and cut from the middle to that of the second pass."""
    mode, antialias = LATENT_UPSCALERS[hires.upscaler]
    size = (hires.upscale_height // 8, hires.upscale_width // 8)
    bigger = F.interpolate(latents, size=size, mode=mode, antialias=antialias)
    over_x = (hires.upscale_width - hires.sampling.width) // 8
    over_y = (hires.upscale_height - hires.sampling.height) // 8
    bottom, right = bigger.shape[2] - (over_y + 1) // 2, bigger.shape[3] - (over_x + 1) // 2
    return bigger[:, :, over_y // 2 : bottom, over_x // 2 : right]
