"""A pass of sampling: what it is, and the parts it is sampled with, which extensions may revise."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from torch import Tensor

from webui.core.hooks import DenoiserHook
from webui.diffusion.guidance import GuidanceOptions, PromptConds
from webui.diffusion.noise import RandomSource
from webui.diffusion.schedules import NoiseTable
from webui.models.families.base import LoadedModel
from webui.models.manager import ModelManager
from webui.pipeline.conditioning import StepCount, TextEncoding
from webui.pipeline.from_image.source import Source
from webui.pipeline.job import Report
from webui.pipeline.latents import sampled_table
from webui.pipeline.networks import MotionLora
from webui.planning.plan import GenerationPlan, SamplingPlan

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

PassKind: TypeAlias = Literal["first", "hires", "source"]


class Noise(Protocol):
    """The random numbers of a pass. source: which generator draws those that samplers need beside."""

    source: RandomSource

    def next(self) -> Tensor:
        """(B, C, h, w) standard normal, on the compute device; the first one is what the pass begins with."""


@dataclass(frozen=True)
class Pass:
    """One pass of one batch with one model.

    kind: "first" from noise, "source" from pictures (img2img), "hires" the second pass.
    indices: which of the job's pictures. source: what it starts from beside noise.
    models: see `ModelManager.borrow` for a network beside the checkpoint.
    state: lasts as long as the job; for what an extension takes from one hook to another, under keys of its own.
    relieved: the pass whose model this one takes over from, None but for a refiner.
    motion_loras: what LoRAs of the prompt have for motion modules, which only an extension puts in.
    """

    plan: GenerationPlan
    sampling: SamplingPlan
    kind: PassKind
    indices: range
    model: LoadedModel
    text: TextEncoding
    models: ModelManager
    job: JobContext
    report: Report
    source: Source | None = None
    state: MutableMapping[str, Any] = field(default_factory=dict)
    relieved: Pass | None = None
    motion_loras: tuple[MotionLora, ...] = ()

    def encode(self, prompts: Sequence[str], negative_prompts: Sequence[str]) -> PromptConds:
        """Prompts for this pass, one and one negative a picture, without tags of extra networks."""
        hires_calls = self.sampling.total_calls if self.kind == "hires" else None
        return self.text.conds(prompts, negative_prompts, StepCount(self.plan.first.total_calls, hires_calls))

    def noise_table(self, trained: NoiseTable) -> NoiseTable:
        """The noise levels that a network was trained on, as settings and sampler have them in this pass."""
        return sampled_table(trained, self.sampling, self.plan.settings)


@dataclass(frozen=True)
class PassParts:
    """What a pass is sampled with.

    conds: the prompts. table: the model's noise levels. guidance: how prompts and negative prompts become one.
    noise, start: what it begins with; start is (B, C, h, w) clean, for a pass that doesn't begin with noise alone, and
    what is kept outside of a mask.
    A refiner's are those of the pass it relieves, and nothing reads them. hooks: around the network, in any order.
    channels: (B, C', h, w) what the network reads beside x, None for most.
    """

    conds: PromptConds
    table: NoiseTable
    guidance: GuidanceOptions
    noise: Noise
    start: Tensor | None = None
    hooks: tuple[DenoiserHook, ...] = ()
    channels: Tensor | None = None


Sample: TypeAlias = Callable[[PassParts], Tensor]
"""Samples a pass with the parts given, as often as it is called; (B, C, h, w) clean latents."""
