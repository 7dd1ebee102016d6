"""Sampling: from noise, pictures or an upscaled first pass to a clean latent, by one model or by two in turn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from webui.core.choices import load_function
from webui.core.hooks import DenoiserHook, Step, wrapped_call, wrapped_denoiser, wrapped_network
from webui.diffusion.denoiser import Network, network_denoiser, require_numbers
from webui.diffusion.guidance import ClassifierFreeGuidance
from webui.diffusion.noise import BrownianNoise, path_seed_of_batch
from webui.models.stopping import Stopped
from webui.pipeline.latents import Levels, levels, steps_of
from webui.pipeline.passes import Pass, PassParts
from webui.pipeline.refiner import Refiner
from webui.pipeline.report import report_guidance

if TYPE_CHECKING:
    from webui.core.hooks import Denoise


class LastPrediction(DenoiserHook):
    """Remembers the newest x0, which an interrupted job hands back."""

    order = 50  # within what blends in a mask

    def __init__(self) -> None:
        self.x0: Tensor | None = None

    def wrap_denoiser(self, denoise: Denoise) -> Denoise:
        def remembering(x: Tensor, sigma: float, step: Step) -> Tensor:
            self.x0 = denoise(x, sigma, step)
            return self.x0

        return remembering


class Stage:
    """A model at work in a pass, with everything that is wrapped around it.

    calls: how often the pass has asked for a prediction before.
    """

    def __init__(self, this_pass: Pass, parts: PassParts, calls: int = 0) -> None:
        model = this_pass.model
        prediction = model.capabilities.prediction
        assert prediction is not None, "a loaded model knows what it predicts"
        self.unet, self.hooks = model.unet, parts.hooks
        self.table = parts.table
        self.guidance = ClassifierFreeGuidance(parts.conds, parts.guidance, parts.channels, calls)
        call = wrapped_call(model.network, parts.hooks)
        network = Network(call, parts.table, prediction, this_pass.sampling.sampler.consistency)
        predict = wrapped_network(network_denoiser(network), parts.hooks)
        self.denoise = wrapped_denoiser(self.guidance.denoiser(predict), parts.hooks)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The network with the hooks' patches."""
        with ExitStack() as patches:
            for hook in self.hooks:
                patches.enter_context(hook.attached(self.unet))
            yield


class Relay:
    """The denoiser that a sampler calls: the pass's own model, and the refiner from its turn on.

    more: hooks that every stage has beside its own.
    """

    def __init__(
        self,
        this_pass: Pass,
        parts: PassParts,
        refiner: Refiner | None,
        more: tuple[DenoiserHook, ...],
        patches: ExitStack,
    ) -> None:
        self.refiner = refiner
        self.more = more
        self.patches = patches
        self.stages: list[Stage] = []
        self._begin(this_pass, parts)

    @property
    def stage(self) -> Stage:
        return self.stages[-1]

    def denoise(self, x: Tensor, sigma: float, step: Step) -> Tensor:
        if self.refiner is not None and self._is_due(self.refiner, sigma):
            self._begin(*self.refiner.opened())
        return self.stage.denoise(x, sigma, step)

    def unconditioned(self) -> Tensor | None:
        """x0 of the negative prompts in the latest call."""
        return self.stage.guidance.last_unconditioned

    def _is_due(self, refiner: Refiner, sigma: float) -> bool:
        return len(self.stages) == 1 and refiner.is_due(sigma, self.stage.table, self.stage.guidance)

    def _begin(self, this_pass: Pass, parts: PassParts) -> None:
        calls = self.stage.guidance.call if self.stages else 0
        stage = Stage(this_pass, replace(parts, hooks=(*parts.hooks, *self.more)), calls)
        self.patches.enter_context(stage.attached())
        self.stages.append(stage)


def sample(this_pass: Pass, refiner: Refiner | None, parts: PassParts) -> Tensor:
    """Run one pass: (B, C, h, w) clean latents.

    An interrupted or skipped pass returns the last whole prediction, or what it began with when there is none.
    """
    plan, job, start, noise = this_pass.sampling, this_pass.job, parts.start, parts.noise
    walked = levels(plan, parts.table, this_pass.plan.settings)
    x = noise.next() * plan.noise_multiplier * (walked.noise + plan.extra_noise * walked.picture)
    if start is not None:
        x = x + start * walked.picture
    if len(walked.sigmas) < 2:
        return x
    function = load_function(plan.sampler.function)
    last = LastPrediction()
    with ExitStack() as patches:
        relay = Relay(this_pass, parts, refiner, (last,), patches)
        patches.enter_context(torch.inference_mode())
        steps = steps_of(plan, walked, parts.table)
        offered = offered_arguments(this_pass, parts, x, walked, steps, relay)
        arguments = {key: make() for key, make in offered.items() if key in inspect.signature(function).parameters}
        arguments |= {key: getattr(plan.churn, key) for key in plan.sampler.extra_options}
        arguments |= plan.sampler.arguments
        try:
            result: Tensor = function(relay.denoise, x, job.steps(steps), **arguments)
        except Stopped:
            result = x
    if not job.completes_pass:
        begun_with = result if start is None else start
        result = begun_with if last.x0 is None else last.x0
    require_numbers(result)
    for stage in relay.stages:
        report_guidance(this_pass.report, stage.guidance)
    return result


def offered_arguments(
    this_pass: Pass, parts: PassParts, x: Tensor, walked: Levels, steps: Sequence[Step], relay: Relay
) -> dict[str, Callable[[], Any]]:
    """What a sampler's signature may ask for, by name; each is made only when it does."""
    plan, settings = this_pass.sampling, this_pass.plan.settings

    def path_noise() -> Callable[[float, float], Tensor]:
        full, seeds = walked.full, this_pass.plan.seeds_of(this_pass.indices)
        of_batch = settings["no_dpmpp_sde_batch_determinism"]
        low, high = float(full[full > 0].min()), float(full.max())
        paths = [path_seed_of_batch(seeds)] if of_batch else seeds
        return BrownianNoise(x, low, high, paths, parts.noise.source).between

    return {
        "noise": lambda: parts.noise.next,
        "eta": lambda: plan.eta,
        "path_noise": path_noise,
        "unconditioned": lambda: relay.unconditioned,
        "calls": lambda: len(walked.pairs),
        "lowest": lambda: steps[-1].sigma_next,
        "level_at": lambda: parts.table.level_at,
        "order": lambda: min(settings["uni_pc_order"], len(steps)) if plan.sampler.walk == "unipc" else 4,
        "variant": lambda: settings["uni_pc_variant"],
        "lower_order_final": lambda: settings["uni_pc_lower_order_final"],
    }
