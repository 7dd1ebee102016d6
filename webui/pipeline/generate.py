"""The job that turns a request into pictures: plan, encode, sample, decode, postprocess, save."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from PIL import Image
from torch import Tensor

from webui.core.choices import ATTENTIONS
from webui.core.hooks import Step
from webui.core.pictures import decoded_picture, require_memory
from webui.core.request import FromImage, GenerationRequest, GenerationResult, ResultImage
from webui.diffusion.denoiser import ActiveNetwork
from webui.diffusion.guidance import ClassifierFreeGuidance, GuidanceOptions
from webui.diffusion.noise import ImageNoise, RandomSource
from webui.diffusion.schedules import ConsistencyTable
from webui.models.attention import attention_computed
from webui.models.families.base import LoadedModel
from webui.models.stopping import Patience, Stopped, stoppable
from webui.models.token_merging import merged_tokens
from webui.pipeline.conditioning import StepCount, TextEncoding, TextOptions
from webui.pipeline.economy import enduring
from webui.pipeline.engine import Engine
from webui.pipeline.fit import idle_wishes, require_fit, require_handover, without_effect
from webui.pipeline.from_image.blending import KeepOutsideMask
from webui.pipeline.from_image.compositing import Picture, composed
from webui.pipeline.from_image.image_input import pixels_hash
from webui.pipeline.from_image.model_input import input_channels
from webui.pipeline.from_image.source import BLANK_MASK, Source, encoded, inpaint_fields, make_canvas, make_masking
from webui.pipeline.job import Job, Report
from webui.pipeline.latents import Latents, noise_table, sample, upscaled
from webui.pipeline.networks import InUse, networks_on, report_embeddings
from webui.pipeline.plan import GenerationPlan, HiresPlan, SamplingPlan, expanded
from webui.pipeline.postprocess import cropped_to, resized, to_image, to_tensor
from webui.pipeline.refiner import RefinerSwitch, refines
from webui.pipeline.report import job_info, report_guidance, report_model, report_options, report_refiner
from webui.pipeline.saving.results import mask_pictures, remember, save_before_hires, save_uncorrected, saved, with_grid
from webui.pipeline.saving.saver import Saver
from webui.prompts.networks import cut_networks

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

OUT_OF_SPACE = "The job ended after {made} of {asked} pictures, as no disk has room for more."
DECODING_SECONDS = 5.0
"""How long an interrupted job may go on decoding what it has sampled."""
SLOW_PIXELS = 4_000_000
"""Of a batch: from here on one step takes so long that it should be possible to stop it on a graphics card, too."""


def run(engine: Engine, request: GenerationRequest, progress: JobContext) -> GenerationResult:
    """Make every picture of the request. An interrupted job returns what it has.

    Raises: WebuiError for what the user can mend.
    """
    started = time.monotonic()
    try:
        job = begin(engine, request, progress)
    except Stopped:
        return GenerationResult((), {}, ("The job was stopped before it began.",), time.monotonic() - started)
    progress.begin_passes(len(job.plan.batches) * (2 if job.plan.hires else 1))
    made = make_pictures(job)
    results = made.results
    if len(made.pictures) > 1 and request.save_grid:
        results = with_grid(job, made.pictures, results)
    comments, seconds = tuple(job.report.comments), time.monotonic() - started
    return GenerationResult(tuple(results), job_info(job, results), comments, seconds, job.saver.keeper.unsaved)


@dataclass
class Made:
    """Finished pictures, and what is handed over of them: masks may stand between."""

    pictures: list[Image.Image] = field(default_factory=list)
    results: list[ResultImage] = field(default_factory=list)


def begin(
    engine: Engine, request: GenerationRequest, progress: JobContext, fields: Mapping[str, object] | None = None
) -> Job:
    """The job with everything decided, and what img2img starts from. fields: further ones for the infotext."""
    plan = engine.plan(request)
    report = Report(dict(fields or {}))
    for remark in request.remarks:
        report.comment(remark)
    saver = Saver(plan, engine.paths, progress.progress.job_timestamp, engine.provenance, report.comment)
    job = Job(engine, plan, progress, saver, report)
    for use in plan.vaes.values():
        if use.note:
            job.report.comment(use.note)
    for sentence in idle_wishes(request, plan, engine.settings.snapshot()):
        job.report.comment(sentence)
    if request.image is not None:
        job = replace(job, source=starting_point(job, request.image))
    remember(job)
    return job


def starting_point(job: Job, image: FromImage) -> Source:
    """The pictures and the mask that the request gives, brought to size and encoded."""
    plan, report = job.plan, job.report
    require_memory(named_pictures(image))
    inputs = [decoded_picture(data, f"Picture {number}") for number, data in enumerate(image.images, start=1)]
    if plan.settings["save_init_img"]:
        for picture in inputs:
            report.fields["Init image hash"] = pixels_hash(picture)
            job.saver.input_picture(picture, pixels_hash(picture))
    masking = None
    if image.inpaint is not None:
        masking = make_masking(plan, image.inpaint)
        if masking is None:
            report.comment(BLANK_MASK)
        shown = inpaint_fields(image.inpaint, masking)
        report.fields.update({key: value for key, value in shown.items() if value is not None})
    canvas = make_canvas(plan, inputs, masking)
    with (
        job.engine.prepared(plan.first.checkpoint, plan) as model,
        stoppable(model.vae.module, lambda: job.progress.interrupted),
    ):
        return encoded(canvas, plan, model)


def named_pictures(image: FromImage) -> Iterator[tuple[str, bytes]]:
    """(name, file) of all pictures and masks that are decoded for one job."""
    for number, data in enumerate(image.images, start=1):
        yield f"Picture {number}", data
    if image.inpaint is not None:
        yield "The mask", image.inpaint.mask
        if image.inpaint.latent_mask is not None:
            yield "latent_mask", image.inpaint.latent_mask


def make_pictures(job: Job) -> Made:
    """All batches, one after the other, until the job is told to stop or nothing more can be saved."""
    made, progress = Made(), job.progress
    with job.engine.models.economy() as economy:
        for batch in job.plan.batches:
            if progress.interrupted or (progress.stopping and made.pictures):
                break
            if job.saver.keeper.out_of_space:
                job.report.comment(OUT_OF_SPACE.format(made=len(made.pictures), asked=len(job.plan.seeds)))
                break
            indices = job.plan.images_of(batch)
            try:
                batch_pictures = enduring(job, economy, partial(make_batch, job, indices))
            except Stopped:
                job.report.comment("The job was stopped while its picture was being decoded: there is none.")
                break
            for index, picture in zip(indices, batch_pictures, strict=True):
                save_uncorrected(job, picture, index)
                finished = job.engine.host.postprocess_image(picture.image, job.plan)
                made.pictures.append(finished)
                made.results += [saved(job, picture, finished, index), *mask_pictures(job, picture, index)]
    return made


def make_batch(job: Job, indices: range) -> list[Picture]:
    """The pictures of one batch, through both passes."""
    plan = job.plan
    with ExitStack() as models:
        latents, model = run_pass(job, plan.first, indices, models, job.source)
        complete = job.progress.completes_pass
        is_last = plan.hires is None or not complete
        job.progress.next_pass()
        if is_last:
            if plan.hires is not None:
                job.progress.next_pass()  # the one left out
            images = decode(latents, model, job.progress)
            pictures = composed(images, latents.samples, job.source, plan, job.color_target)
            return [replace(picture, complete=complete) for picture in pictures]
        assert plan.hires is not None
        before = None
        if not plan.hires.is_latent or plan.settings["save_images_before_highres_fix"]:
            before = decode(latents, model, job.progress)
            save_before_hires(job, before, indices)
    with ExitStack() as models:
        model = models.enter_context(job.engine.prepared(plan.hires.sampling.checkpoint, plan))
        source = enlarged(plan, plan.hires, latents, before, model, indices)
        latents, model = run_pass(job, plan.hires.sampling, indices, models, source)
        complete = job.progress.completes_pass
        job.progress.next_pass()
        return [Picture(image, complete=complete) for image in decode(latents, model, job.progress)]


def run_pass(
    job: Job, sampling: SamplingPlan, indices: range, models: ExitStack, source: Source | None = None
) -> tuple[Latents, LoadedModel]:
    """Encode the prompts and sample one pass. Returns the latents and the model that decodes them.

    models: keeps the models of the pass until its end; a refiner's too. source: what it starts from beside noise.
    """
    plan, settings = job.plan, job.plan.settings
    model = models.enter_context(job.engine.prepared(sampling.checkpoint, plan))
    require_fit(model, sampling, source.latents if source else None)
    for sentence in without_effect(model, plan, sampling):
        job.report.comment(sentence)
    models.enter_context(network_changes(job, model, sampling))
    tagged, negative_prompts = expanded(sampling.prompts, indices), expanded(sampling.negative_prompts, indices)
    prompts = tuple(cut_networks(prompt).text for prompt in tagged)
    is_second = plan.hires is not None and sampling is plan.hires.sampling
    steps = StepCount(plan.first.total_calls, sampling.total_calls if is_second else None)
    conds = None
    if is_second and settings["hires_fix_use_firstpass_conds"]:
        with networks_on(job, model, expanded(plan.first.prompts, indices), negative_prompts) as of_first:
            conds = text_encoding(job, model, sampling, of_first).conds(prompts, negative_prompts, steps)
    in_use = models.enter_context(networks_on(job, model, tagged, negative_prompts))
    active = activated(model, plan, sampling)
    encoding = text_encoding(job, model, sampling, in_use)
    conds = conds or encoding.conds(prompts, negative_prompts, steps)
    if not is_second:
        report_embeddings(job, in_use, encoding.embeddings_in(prompts, negative_prompts))
    channels = channels_beside(job, model, sampling, indices, source)
    guidance = ClassifierFreeGuidance(conds, guidance_options(plan, sampling, encoding), channels)
    hooks = job.engine.host.denoiser_hooks(plan, model, job.progress)
    current = [model]
    if plan.refiner is not None and refines(plan, is_second):

        def switch() -> None:
            refiner = models.enter_context(job.engine.prepared(plan.refiner.checkpoint, plan))  # type: ignore[union-attr]
            require_fit(refiner, sampling)
            require_handover(model, refiner)
            models.enter_context(network_changes(job, refiner, sampling))
            current.append(refiner)
            active.take_over(activated(refiner, plan, sampling))
            reading = text_encoding(
                job, refiner, sampling, models.enter_context(networks_on(job, refiner, tagged, negative_prompts))
            )
            guidance.conds = reading.conds(prompts, negative_prompts, steps)
            guidance.options = guidance_options(plan, sampling, reading)
            guidance.channels = channels_beside(job, refiner, sampling, indices, source)
            report_refiner(job)

        hooks = [*hooks, RefinerSwitch(plan, guidance, active, switch)]
    blend = kept_outside_mask(plan, sampling, active, source)
    report_model(job, model)
    report_options(job, sampling, active, prompts, negative_prompts)
    noise = image_noise(plan, sampling, indices, model)
    start = Latents(source.latents) if source else None
    hooks, seeds = [*hooks, *([blend] if blend else [])], expanded(plan.seeds, indices)
    latents = sample(sampling, settings, active, guidance, noise, seeds, hooks, job.progress, start)
    report_guidance(job, guidance)
    return Latents(blend.finished(latents.samples)) if blend else latents, current[-1]


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


def channels_beside(
    job: Job, model: LoadedModel, sampling: SamplingPlan, indices: range, source: Source | None
) -> Tensor | None:
    """What the model reads beside the noisy latent; None for most."""
    return input_channels(
        model,
        (sampling.height // 8, sampling.width // 8),
        len(indices),
        job.plan.seeds[indices[0]],
        source.pictures if source else None,
        source.picture_mask if source else None,
        job.plan.settings["inpainting_mask_weight"],
    )


def kept_outside_mask(
    plan: GenerationPlan, sampling: SamplingPlan, active: ActiveNetwork, source: Source | None
) -> KeepOutsideMask | None:
    """The hook that keeps what lies outside of the mask, None without one."""
    if source is None or source.mask is None:
        return None

    def timestep(sigma: float, step: Step) -> float:
        return active.table.timestep(sigma) if step.timestep is None else step.timestep

    inpaint = plan.request.image.inpaint if plan.request.image else None
    soft = inpaint.soft if inpaint else None
    return KeepOutsideMask(source.latents, source.mask, soft, timestep if sampling.sampler.timesteps else None)


def text_encoding(job: Job, model: LoadedModel, sampling: SamplingPlan, in_use: InUse) -> TextEncoding:
    """The reader of one pass's prompts. SDXL is told the picture's size: a second pass's before it is cut."""
    plan, size = job.plan, (sampling.width, sampling.height)
    if plan.hires is not None and sampling is plan.hires.sampling:
        size = plan.hires.upscale_width, plan.hires.upscale_height
    return TextEncoding(model, job.engine.tokenizer, TextOptions.of(plan.settings), size, in_use.embeddings)


def activated(model: LoadedModel, plan: GenerationPlan, sampling: SamplingPlan) -> ActiveNetwork:
    """The model's network with the noise levels of this job."""
    table = noise_table(model.levels, plan.settings)
    consistency, prediction = sampling.sampler.consistency, model.capabilities.prediction
    assert prediction is not None, "a loaded model knows what it predicts"
    return ActiveNetwork(
        network=model.network,
        table=ConsistencyTable.of(table) if consistency else table,
        prediction=prediction,
        consistency=consistency,
    )


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
        expanded(plan.seeds, indices),
        RandomSource(plan.settings["randn_source"], model.device),
        subseeds=expanded(plan.subseeds, indices),
        strength=variation.strength,
        resize_from=resize if min(resize) > 0 else None,
        seed_delta=plan.settings["eta_noise_seed_delta"],
    )


def decode(latents: Latents, model: LoadedModel, progress: JobContext) -> list[Image.Image]:
    """Pictures from latents, one after the other. Raises: Stopped, some time after the job was interrupted."""
    patience = Patience(lambda: progress.interrupted, DECODING_SECONDS)
    with torch.inference_mode(), stoppable(model.vae.module, patience.is_over):
        return [to_image(decoded) for decoded in model.decode(latents.samples)]


def enlarged(
    plan: GenerationPlan,
    hires: HiresPlan,
    latents: Latents,
    before: Sequence[Image.Image] | None,
    model: LoadedModel,
    indices: range,
) -> Source:
    """The first pass at the second one's size, in latents or by way of pictures."""
    shows_picture = model.capabilities.input_kind == "inpaint" and plan.settings["inpainting_mask_weight"] < 1
    if hires.is_latent:
        bigger = upscaled(latents, hires)
        with torch.inference_mode():
            return Source(bigger.samples, model.decode(bigger.samples) if shows_picture else None)
    assert before is not None, "an image upscaler needs the decoded pictures"
    target = hires.sampling
    images = [resized(image, hires.upscaler, hires.upscale_width, hires.upscale_height) for image in before]
    cut = [to_tensor(cropped_to(image, target.width, target.height))[None].to(model.device) for image in images]
    seeds = expanded(plan.seeds, indices)
    with torch.inference_mode():
        encoded_images = [
            model.encode(image, torch.Generator().manual_seed(seed)) for image, seed in zip(cut, seeds, strict=True)
        ]
    # A1111 shows an inpainting model these pictures with levels of 0..1 in place of -1..1.
    pictures = (torch.cat(cut) + 1) / 2 if shows_picture else None
    return Source(torch.cat(encoded_images).float(), pictures)
