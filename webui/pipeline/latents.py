"""Sampling: from noise (or an upscaled first pass) to a clean latent."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from webui.core.choices import LATENT_UPSCALERS, Sampler, load_function
from webui.core.hooks import DenoiserHook, Step, wrapped_denoiser, wrapped_network
from webui.core.settings import Settings
from webui.diffusion.denoiser import ActiveNetwork, network_denoiser, require_numbers
from webui.diffusion.guidance import ClassifierFreeGuidance
from webui.diffusion.noise import BrownianNoise, ImageNoise
from webui.diffusion.schedules import NoiseTable, ScheduleOptions, ddim_timesteps, sigmas_for
from webui.pipeline.plan import HiresPlan, SamplingPlan

if TYPE_CHECKING:
    from webui.core.hooks import Denoise
    from webui.jobs.context import JobContext


@dataclass(frozen=True)
class Latents:
    """Clean latents of a batch. samples: (B, C, h, w) in the model's scale."""

    samples: Tensor


@dataclass(frozen=True)
class Levels:
    """The noise levels one pass runs through.

    sigmas: (n + 1,), full: the whole schedule that `sigmas` may be the end of.
    The first x is picture * (clean latents) + noise * (unit noise).
    """

    sigmas: Tensor
    full: Tensor
    noise: float
    picture: float = 0.0

    def steps(self) -> list[Step]:
        count = len(self.sigmas) - 1
        values = self.sigmas.tolist()
        return [Step(index, count, values[index], values[index + 1]) for index in range(count)]


def noise_table(alphas_cumprod: Tensor, settings: Settings) -> NoiseTable:
    """The model's noise levels with the settings' changes."""
    table = NoiseTable(alphas_cumprod.float().cpu(), settings["enable_quantization"])
    if settings["use_downcasted_alpha_bar"]:
        table = table.downcast()
    if settings["sd_noise_schedule"] == "Zero Terminal SNR":
        table = table.zero_terminal_snr()
    return table


def schedule_options(plan: SamplingPlan, settings: Settings) -> ScheduleOptions:
    return ScheduleOptions(
        sigma_min=settings["sigma_min"],
        sigma_max=settings["sigma_max"],
        rho=settings["rho"],
        old_range=settings["use_old_karras_scheduler_sigmas"],
        discard_next_to_last=plan.sampler.discard_next_to_last_sigma or settings["always_discard_next_to_last_sigma"],
    )


def levels(plan: SamplingPlan, table: NoiseTable, settings: Settings) -> Levels:
    """The levels of a pass: all of them from noise, the last part when it starts from a picture.

    A pass from a picture walks as many steps as planned, of a schedule longer by 1 / denoise.
    """
    if plan.denoise is None:
        return _levels_from_noise(plan, table, settings)
    if plan.denoise == 0:
        nothing = torch.zeros(1, dtype=torch.float64)
        return Levels(nothing, nothing, noise=0.0, picture=1.0)
    steps = int(plan.steps / min(plan.denoise, 0.999))
    if plan.sampler.timesteps:
        timesteps = ddim_timesteps(steps, len(table.sigmas))
        last = min(plan.steps - 1, len(timesteps) - 1)
        full = table.sigmas[timesteps].flip(0)
        sigmas = table.sigmas[timesteps[: max(last, 1)]].flip(0)
        entry, first = float(table.sigmas[timesteps[last]]), float(sigmas[0])
        picture = math.sqrt((first**2 + 1) / (entry**2 + 1))
        return Levels(sigmas, full, noise=picture * entry, picture=picture)
    full = sigmas_for(plan.schedule, steps, table, schedule_options(plan, settings))
    sigmas = full[steps - plan.steps :]
    return Levels(sigmas, full, noise=float(sigmas[0]), picture=1.0)


def _levels_from_noise(plan: SamplingPlan, table: NoiseTable, settings: Settings) -> Levels:
    if plan.sampler.timesteps:
        sigmas = table.sigmas[ddim_timesteps(plan.steps, len(table.sigmas))].flip(0)
        return Levels(sigmas, sigmas, noise=math.sqrt(float(sigmas[0]) ** 2 + 1))
    sigmas = sigmas_for(plan.schedule, plan.steps, table, schedule_options(plan, settings))
    first = float(sigmas[0])
    return Levels(sigmas, sigmas, noise=math.sqrt(1 + first**2) if settings["sgm_noise_multiplier"] else first)


class LastPrediction(DenoiserHook):
    """Remembers the newest x0, which an interrupted job hands back."""

    order = 900

    def __init__(self) -> None:
        self.x0: Tensor | None = None

    def wrap_denoiser(self, denoise: Denoise) -> Denoise:
        def remembering(x: Tensor, sigma: float, step: Step) -> Tensor:
            self.x0 = denoise(x, sigma, step)
            return self.x0

        return remembering


def takes_eta(sampler: Sampler) -> bool:
    """Whether the sampler's function has an `eta`."""
    return "eta" in inspect.signature(load_function(sampler.function)).parameters


def sampler_arguments(
    plan: SamplingPlan,
    function: Callable[..., Tensor],
    x: Tensor,
    walked: Levels,
    noise: ImageNoise,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """The keyword arguments of a sampler, by the names in its signature."""
    sigmas = walked.full
    wanted = inspect.signature(function).parameters
    arguments: dict[str, Any] = {key: getattr(plan.churn, key) for key in plan.sampler.extra_options}
    arguments |= plan.sampler.arguments
    if "noise" in wanted:
        arguments["noise"] = noise.next
    if "eta" in wanted:
        arguments["eta"] = plan.eta
    if "path_noise" in wanted:
        low, high = float(sigmas[sigmas > 0].min()), float(sigmas.max())
        arguments["path_noise"] = BrownianNoise(x, low, high, seeds).between
    return arguments


def sample(
    plan: SamplingPlan,
    settings: Settings,
    active: ActiveNetwork,
    guidance: ClassifierFreeGuidance,
    noise: ImageNoise,
    seeds: Sequence[int],
    hooks: Sequence[DenoiserHook],
    job: JobContext,
    start: Latents | None = None,
) -> Latents:
    """Run one pass. start: the clean latents it begins from, when `plan.denoise` is set.

    An interrupted or skipped pass returns the last prediction.
    """
    walked = levels(plan, active.table, settings)
    x = noise.next() * walked.noise
    if start is not None:
        x = x + start.samples * walked.picture
    if len(walked.sigmas) < 2:
        return Latents(x)
    function = load_function(plan.sampler.function)
    last = LastPrediction()
    every_hook = [*hooks, last]
    predict = wrapped_network(network_denoiser(active), every_hook)
    denoise = wrapped_denoiser(guidance.denoiser(predict), every_hook)
    with ExitStack() as stack:
        for hook in every_hook:
            stack.enter_context(hook.attached(active.network))
        stack.enter_context(torch.inference_mode())
        arguments = sampler_arguments(plan, function, x, walked, noise, seeds)
        result = function(denoise, x, job.steps(walked.steps()), **arguments)
    if (job.interrupted or job.skipped) and last.x0 is not None:
        result = last.x0
    require_numbers(result)
    return Latents(result)


def upscaled(latents: Latents, hires: HiresPlan) -> Latents:
    """Latents interpolated to the plan's upscaled size and cut from the middle to that of the second pass."""
    mode, antialias = LATENT_UPSCALERS[hires.upscaler]
    size = (hires.upscale_height // 8, hires.upscale_width // 8)
    bigger = F.interpolate(latents.samples, size=size, mode=mode, antialias=antialias)
    over_x = (hires.upscale_width - hires.sampling.width) // 8
    over_y = (hires.upscale_height - hires.sampling.height) // 8
    bottom, right = bigger.shape[2] - (over_y + 1) // 2, bigger.shape[3] - (over_x + 1) // 2
    return Latents(bigger[:, :, over_y // 2 : bottom, over_x // 2 : right])
