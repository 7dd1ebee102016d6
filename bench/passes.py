"""Sampling with a network that takes no time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from bench.engines import build_engine
from webui.core.choices import SAMPLERS
from webui.core.request import GenerationRequest
from webui.diffusion.denoiser import Cond
from webui.diffusion.guidance import (
    GuidanceOptions,
    PromptConds,
    TimedCond,
    WeightedSchedule,
)
from webui.diffusion.noise import ImageNoise, RandomSource
from webui.diffusion.schedules import ConsistencyTable, NoiseTable, scaled_linear_alphas_cumprod
from webui.jobs.context import JobContext
from webui.pipeline.job import Report
from webui.pipeline.latents import noise_table
from webui.pipeline.passes import Pass, PassParts
from webui.pipeline.sampling import sample
from webui.planning.plan import GenerationPlan

CHANNELS, TOKENS, WIDTH = 4, 77, 768
SEED = 1


def free_passes(checkpoint: Path, pixels: int, steps: int, source: str) -> list[FreePass]:
    """A pass by each sampler. checkpoint: any file, which is not loaded. source: where random numbers come from."""
    with tempfile.TemporaryDirectory(prefix="easel-bench-") as data:
        _, engine = build_engine(Path(data), "--ckpt", str(checkpoint))
    asked = GenerationRequest(width=pixels, height=pixels, steps=steps, seed=SEED)
    return [FreePass(engine.plan(asked.replace(sampler=row.name)), source) for row in SAMPLERS]


class FreePass:
    """One picture's pass by one sampler, through the pipeline's own `sample`."""

    def __init__(self, plan: GenerationPlan, source: str) -> None:
        self.plan = plan
        self.name = plan.first.sampler.name
        self.shape = (CHANNELS, plan.first.height // 8, plan.first.width // 8)
        self.source = RandomSource(source, torch.device("cpu"))
        table = noise_table(NoiseTable(scaled_linear_alphas_cumprod()), self.plan.settings)
        consistency = self.plan.first.sampler.consistency
        table = ConsistencyTable.of(table) if consistency else table
        self.table = table
        self._model: Any = SimpleNamespace(
            network=self._answer, unet=None, capabilities=SimpleNamespace(prediction="eps")
        )
        vectors = torch.zeros(TOKENS, WIDTH)
        self.conds = PromptConds(
            ((WeightedSchedule(1.0, (TimedCond(10**6, vectors),)),),), ((TimedCond(10**6, vectors),),)
        )

    def _answer(self, x: Tensor, timesteps: Tensor, cond: Cond) -> Tensor:
        """The noise of data that is one point, which every sampler reaches with ease."""
        self.calls += 1
        return x

    def sample(self) -> int:
        """Run the pass. Returns: how often the network was called."""
        first = self.plan.first
        options = GuidanceOptions(7.0 * first.sampler.cfg_factor, first.total_calls)
        noise = ImageNoise(self.shape, [SEED], self.source)
        self.calls = 0
        nothing: Any = None  # no prompt is encoded, no network borrowed
        job = JobContext.alone()
        this_pass = Pass(self.plan, first, "first", range(1), self._model, nothing, nothing, job, Report())
        sample(this_pass, None, PassParts(self.conds, self.table, options, noise))
        return self.calls
