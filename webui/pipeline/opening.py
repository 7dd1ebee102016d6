"""Opening a pass: its model and extra networks in place, its parts made and revised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Literal

from torch import Tensor

from webui.core.choices import ATTENTIONS
from webui.core.hooks import Step
from webui.diffusion.guidance import GuidanceOptions, PromptConds
from webui.diffusion.noise import ImageNoise, RandomSource
from webui.models.attention import attention_computed
from webui.models.families.base import LoadedModel
from webui.models.stopping import stoppable
from webui.models.token_merging import merged_tokens
from webui.pipeline.conditioning import StepCount, TextEncoding, TextOptions
from webui.pipeline.fit import require_fit, require_handover, without_effect
from webui.pipeline.from_image.blending import KeepOutsideMask
from webui.pipeline.from_image.model_input import input_channels
from webui.pipeline.from_image.source import Source
from webui.pipeline.job import Job
from webui.pipeline.networks import InUse, networks_on, report_embeddings
from webui.pipeline.passes import Noise, Pass, PassKind, PassParts
from webui.pipeline.report import report_model, report_options, report_refiner
from webui.planning.plan import GenerationPlan, RefinerPlan, SamplingPlan
from webui.prompts.networks import cut_networks

SLOW_PIXELS = 4_000_000
"""Of a batch: from here on one step takes so long that it should be possible to stop it on a graphics card, too."""


def open_pass(
    job: Job, kind: PassKind, indices: range, source: Source | None, models: ExitStack
) -> tuple[Pass, PassParts]:
    """A pass of the plan, its model on the device until `models` closes, and its parts as extensions want them.

    source: what it starts from beside noise. Raises: InvalidRequest when the model can't do it.
    """
    plan = job.plan
    sampling = plan.hires.sampling if plan.hires and kind == "hires" else plan.first
    model = models.enter_context(job.engine.prepared(sampling.checkpoint, plan))
    require_fit(model, sampling, source.latents if source else None)
    for sentence in without_effect(model, plan, sampling):
        job.report.comment(sentence)
    models.enter_context(network_changes(job, model, sampling))
    conds = None
    if kind == "hires" and plan.settings["hires_fix_use_firstpass_conds"]:
        conds = conds_by_first_networks(job, model, sampling, indices)
    tagged, negatives = sampling.prompts_of(indices)
    in_use = models.enter_context(networks_on(job, model, tagged, negatives))
    text = text_encoding(job, sampling, model, in_use)
    this_pass = Pass(
        plan=plan,
        sampling=sampling,
        kind=kind,
        indices=indices,
        model=model,
        text=text,
        models=job.engine.models,
        job=job.progress,
        report=job.report,
        source=source,
        state=job.state,
        motion_loras=in_use.motion,
    )
    prompts = untagged(tagged)
    conds = conds or this_pass.encode(prompts, negatives)
    if kind != "hires":
        report_embeddings(job, in_use, text.embeddings_in(prompts, negatives))
    noise = image_noise(plan, sampling, indices, model)
    parts = parts_of(job, this_pass, conds, noise, source.latents if source else None)
    parts = revised(job, parts, this_pass)
    report_model(job, model)
    report_options(job, sampling, parts.table, prompts, negatives)
    return this_pass, parts


def open_refiner(
    job: Job, refiner: RefinerPlan, relieved: Pass, noise: Noise, models: ExitStack
) -> tuple[Pass, PassParts]:
    """The pass that goes on where `relieved` stops, as `open_pass`."""
    plan, sampling, indices = relieved.plan, relieved.sampling, relieved.indices
    model = models.enter_context(job.engine.prepared(refiner.checkpoint, plan))
    require_fit(model, sampling)
    require_handover(relieved.model, model)
    models.enter_context(network_changes(job, model, sampling))
    tagged, negatives = sampling.prompts_of(indices)
    in_use = models.enter_context(networks_on(job, model, tagged, negatives))
    text = text_encoding(job, sampling, model, in_use)
    this_pass = replace(relieved, model=model, text=text, relieved=relieved, motion_loras=in_use.motion)
    conds = this_pass.encode(untagged(tagged), negatives)
    source = relieved.source
    parts = parts_of(job, this_pass, conds, noise, source.latents if source else None)
    report_refiner(job)
    return this_pass, revised(job, parts, this_pass)


def parts_of(job: Job, this_pass: Pass, conds: PromptConds, noise: Noise, start: Tensor | None) -> PassParts:
    """The parts before any extension revises them."""
    plan, sampling, model = this_pass.plan, this_pass.sampling, this_pass.model
    hooks = job.engine.host.denoiser_hooks(plan, model, job.progress)
    return PassParts(
        conds=conds,
        table=this_pass.noise_table(model.levels),
        guidance=guidance_options(plan, sampling, this_pass.text),
        noise=noise,
        start=start,
        hooks=tuple(hooks),
        channels=channels_beside(this_pass),
    )


def revised(job: Job, parts: PassParts, this_pass: Pass) -> PassParts:
    """The parts as extensions want them, and around them what keeps the start outside of the mask."""
    parts = job.engine.host.revise_pass(parts, this_pass)
    blend = kept_outside_mask(this_pass, parts)
    return replace(parts, hooks=(*parts.hooks, blend)) if blend else parts


def conds_by_first_networks(job: Job, model: LoadedModel, sampling: SamplingPlan, indices: range) -> PromptConds:
    """A second pass's prompts, encoded while the model has the first one's networks."""
    plan = job.plan
    tagged, negatives = sampling.prompts_of(indices)
    with networks_on(job, model, plan.first.prompts_of(indices)[0], negatives) as of_first:
        text = text_encoding(job, sampling, model, of_first)
        return text.conds(untagged(tagged), negatives, StepCount(plan.first.total_calls, sampling.total_calls))


def untagged(prompts: Sequence[str]) -> tuple[str, ...]:
    """Prompts without the tags of their extra networks."""
    return tuple(cut_networks(prompt).text for prompt in prompts)


@contextmanager
def network_changes(job: Job, model: LoadedModel, sampling: SamplingPlan) -> Iterator[None]:
    """What is changed about the network itself during a pass: by the settings, and that the pass can be stopped."""
    plan, pixels = job.plan, sampling.width * sampling.height * job.plan.request.batch_size
    slow = pixels >= SLOW_PIXELS and model.device.type == "cuda"
    written_out = ATTENTIONS.get(plan.settings["cross_attention_optimization"])
    if written_out is None:
        written_out = model.placement.exact
    with (
        merged_tokens(model.unet, sampling.token_merging),
        attention_computed(model.unet, written_out=written_out, upcast=plan.settings["upcast_attn"]),
        stoppable(model.unet, lambda: not job.progress.completes_pass, model.device if slow else None),
    ):
        yield


def channels_beside(this_pass: Pass) -> Tensor | None:
    """What the model reads beside the noisy latent; None for most."""
    plan, sampling, source = this_pass.plan, this_pass.sampling, this_pass.source
    return input_channels(
        this_pass.model,
        (sampling.height // 8, sampling.width // 8),
        len(this_pass.indices),
        plan.seeds[this_pass.indices[0]],
        source.pictures if source else None,
        source.picture_mask if source else None,
        plan.settings["inpainting_mask_weight"],
    )


def kept_outside_mask(this_pass: Pass, parts: PassParts) -> KeepOutsideMask | None:
    """The hook that keeps what lies outside of the mask, None without one."""
    source = this_pass.source
    if source is None or source.mask is None or parts.start is None:
        return None

    def timestep(sigma: float, step: Step) -> float:
        return parts.table.timestep(sigma) if step.timestep is None else step.timestep

    soft = this_pass.plan.soft_inpainting
    return KeepOutsideMask(parts.start, source.mask, soft, timestep if this_pass.sampling.sampler.timesteps else None)


def text_encoding(job: Job, sampling: SamplingPlan, model: LoadedModel, in_use: InUse) -> TextEncoding:
    """The reader of one pass's prompts. SDXL is told the picture's size: a second pass's before it is cut."""
    plan, size = job.plan, (sampling.width, sampling.height)
    if plan.hires is not None and sampling is plan.hires.sampling:
        size = plan.hires.upscale_width, plan.hires.upscale_height
    return TextEncoding(model, job.engine.tokenizer, TextOptions.of(plan.settings), size, in_use.embeddings)


def guidance_options(plan: GenerationPlan, sampling: SamplingPlan, encoding: TextEncoding) -> GuidanceOptions:
    settings, asked, image = plan.settings, plan.request.sampler_options.s_min_uncond, plan.request.image
    pad: Literal["empty", "repeat"] | None = "empty" if settings["pad_cond_uncond"] else None
    if settings["pad_cond_uncond_v0"]:
        pad = "repeat"
    return GuidanceOptions(
        cfg_scale=plan.request.cfg_scale * sampling.sampler.cfg_factor,
        total_calls=sampling.walked_calls,
        min_sigma=settings["s_min_uncond"] if asked is None else asked,
        min_sigma_all=settings["s_min_uncond_all"],
        skip_early=settings["skip_early_cond"],
        batch_together=settings["batch_cond_uncond"],
        pad=pad,
        empty=encoding.empty() if pad == "empty" else None,
        image_scale=image.image_cfg_scale if image and encoding.model.capabilities.input_kind == "edit" else None,
    )


def image_noise(plan: GenerationPlan, sampling: SamplingPlan, indices: range, model: LoadedModel) -> ImageNoise:
    """The random numbers of a pass; a second pass starts its seeds over at its own size."""
    variation, capabilities = plan.request.variation, model.capabilities
    resize = (variation.resize_from_height // 8, variation.resize_from_width // 8)
    return ImageNoise(
        (capabilities.latent_channels, sampling.height // 8, sampling.width // 8),
        plan.seeds_of(indices),
        RandomSource(plan.settings["randn_source"], model.device),
        subseeds=[plan.subseeds[index] for index in indices],
        strength=variation.strength,
        resize_from=resize if min(resize) > 0 else None,
        seed_delta=plan.settings["eta_noise_seed_delta"],
    )
