"""The job that turns a request into pictures: plan, encode, sample, decode, postprocess, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from PIL import Image
from torch import Tensor

from webui.core.errors import WebuiError
from webui.core.files import write_atomic
from webui.core.hooks import DenoiserHook, Step
from webui.core.request import GenerationRequest, GenerationResult, ResultImage
from webui.core.version import A1111_VERSION
from webui.diffusion.denoiser import ActiveNetwork
from webui.diffusion.guidance import ClassifierFreeGuidance, GuidanceOptions
from webui.diffusion.noise import ImageNoise, RandomSource
from webui.diffusion.schedules import ConsistencyTable, shown_options
from webui.models.families.base import LoadedModel
from webui.models.token_merging import merged_tokens
from webui.pipeline.conditioning import StepCount, TextEncoding, TextOptions
from webui.pipeline.engine import Engine
from webui.pipeline.infotext import image_infotext
from webui.pipeline.latents import Latents, noise_table, sample, schedule_options, takes_eta, upscaled
from webui.pipeline.plan import GenerationPlan, HiresPlan, SamplingPlan, expanded
from webui.pipeline.postprocess import cropped_to, grid_rows, make_grid, resized, to_image, to_tensor
from webui.pipeline.save import Saver
from webui.prompts.networks import cut_networks

if TYPE_CHECKING:
    from webui.core.hooks import Denoise
    from webui.jobs.context import JobContext


@dataclass
class Report:
    """What the stages find worth telling: infotext entries by key, sentences for the user."""

    fields: dict[str, object] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)

    def comment(self, sentence: str) -> None:
        if sentence not in self.comments:
            self.comments.append(sentence)


@dataclass(frozen=True)
class Job:
    """What every stage of one job shares."""

    engine: Engine
    plan: GenerationPlan
    progress: JobContext
    saver: Saver
    report: Report


def run(engine: Engine, request: GenerationRequest, progress: JobContext) -> GenerationResult:
    """Make every picture of the request. An interrupted job returns what it has.

    Raises: WebuiError for what the user can mend.
    """
    started = time.monotonic()
    plan = engine.plan(request)
    saver = Saver(plan, engine.paths, progress.progress.job_timestamp, engine.provenance)
    job = Job(engine, plan, progress, saver, Report())
    progress.begin_passes(len(plan.batches) * (2 if plan.hires else 1))
    _remember(job)
    pictures: list[Image.Image] = []
    results: list[ResultImage] = []
    for batch in plan.batches:
        if progress.interrupted or (progress.stopping and pictures):
            break
        indices = plan.images_of(batch)
        for index, picture in zip(indices, make_batch(job, indices), strict=True):
            finished = engine.host.postprocess_image(picture, plan)
            results.append(_saved(job, finished, index))
            pictures.append(finished)
    if len(pictures) > 1 and request.save_grid:
        results = _with_grid(job, pictures, results)
    return GenerationResult(tuple(results), _info(job, results), tuple(job.report.comments), time.monotonic() - started)


def make_batch(job: Job, indices: range) -> list[Image.Image]:
    """The pictures of one batch, through both passes."""
    plan = job.plan
    with ExitStack() as models:
        latents, model = run_pass(job, plan.first, indices, models)
        is_last = plan.hires is None or job.progress.interrupted or job.progress.skipped
        job.progress.next_pass()
        if is_last:
            if plan.hires is not None:
                job.progress.next_pass()  # the one left out
            return decode(job, latents, model)
        assert plan.hires is not None
        before = None
        if not plan.hires.is_latent or plan.settings["save_images_before_highres_fix"]:
            before = decode(job, latents, model)
            _save_before_hires(job, before, indices)
    with ExitStack() as models:
        model = models.enter_context(job.engine.prepared(plan.hires.sampling.checkpoint, plan))
        start = enlarged(plan.hires, latents, before, model)
        latents, model = run_pass(job, plan.hires.sampling, indices, models, start)
        job.progress.next_pass()
        return decode(job, latents, model)


def run_pass(
    job: Job, sampling: SamplingPlan, indices: range, models: ExitStack, start: Latents | None = None
) -> tuple[Latents, LoadedModel]:
    """Encode the prompts and sample one pass. Returns the latents and the model that decodes them.

    models: keeps the models of the pass until its end; a refiner's too.
    """
    plan, settings = job.plan, job.plan.settings
    model = models.enter_context(job.engine.prepared(sampling.checkpoint, plan))
    models.enter_context(merged_tokens(model.unet, sampling.token_merging))
    prompts = without_networks(job, expanded(sampling.prompts, indices))
    negative_prompts = expanded(sampling.negative_prompts, indices)
    steps = StepCount(plan.first.total_calls)
    if start is not None:
        steps = StepCount(plan.first.total_calls, sampling.total_calls)

    active = activated(model, plan, sampling)
    encoding = text_encoding(job, model, sampling)
    conds = encoding.conds(prompts, negative_prompts, steps)
    guidance = ClassifierFreeGuidance(conds, guidance_options(plan, sampling, encoding))
    hooks = job.engine.host.denoiser_hooks(plan, model, job.progress)
    current = [model]
    if plan.refiner is not None and _refines(plan, start is not None):

        def switch() -> None:
            refiner = models.enter_context(job.engine.prepared(plan.refiner.checkpoint, plan))  # type: ignore[union-attr]
            models.enter_context(merged_tokens(refiner.unet, sampling.token_merging))
            current.append(refiner)
            active.__dict__.update(activated(refiner, plan, sampling).__dict__)
            guidance.conds = text_encoding(job, refiner, sampling).conds(prompts, negative_prompts, steps)
            _report_refiner(job)

        hooks = [*hooks, RefinerSwitch(plan, guidance, active, switch)]
    _report_options(job, sampling, active, prompts, negative_prompts)
    noise = image_noise(plan, sampling, indices, model)
    latents = sample(
        sampling, settings, active, guidance, noise, expanded(plan.seeds, indices), hooks, job.progress, start
    )
    _report_guidance(job, guidance)
    return latents, current[-1]


def text_encoding(job: Job, model: LoadedModel, sampling: SamplingPlan) -> TextEncoding:
    """The reader of one pass's prompts. SDXL is told the picture's size: a second pass's before it is cut."""
    plan, size = job.plan, (sampling.width, sampling.height)
    if plan.hires is not None and sampling is plan.hires.sampling:
        size = plan.hires.upscale_width, plan.hires.upscale_height
    return TextEncoding(model, job.engine.tokenizer, TextOptions.of(plan.settings), size)


def without_networks(job: Job, prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts without their <lora:...> tags; the first prompt's decide for the whole batch."""
    cut = [cut_networks(prompt) for prompt in prompts]
    if not job.plan.request.disable_extra_networks:
        for tag in cut[0][1]:
            job.report.comment(
                f"<{tag.kind}:{':'.join(tag.args)}> has no effect: this version loads no extra networks yet."
            )
    return tuple(text for text, _ in cut)


def activated(model: LoadedModel, plan: GenerationPlan, sampling: SamplingPlan) -> ActiveNetwork:
    """The model's network with the noise levels of this job."""
    table = noise_table(model.alphas_cumprod, plan.settings)
    consistency = sampling.sampler.consistency
    return ActiveNetwork(
        network=model.network,
        table=ConsistencyTable.of(table) if consistency else table,
        prediction=model.capabilities.prediction,  # type: ignore[arg-type]  # flow models come with their own loop
        consistency=consistency,
    )


def guidance_options(plan: GenerationPlan, sampling: SamplingPlan, encoding: TextEncoding) -> GuidanceOptions:
    settings, asked = plan.settings, plan.request.sampler_options.s_min_uncond
    pad: Literal["empty", "repeat"] | None = "empty" if settings["pad_cond_uncond"] else None
    if settings["pad_cond_uncond_v0"]:
        pad = "repeat"
    return GuidanceOptions(
        cfg_scale=plan.request.cfg_scale * sampling.sampler.cfg_factor,
        total_calls=sampling.total_calls,
        min_sigma=settings["s_min_uncond"] if asked is None else asked,
        min_sigma_all=settings["s_min_uncond_all"],
        skip_early=settings["skip_early_cond"],
        batch_together=settings["batch_cond_uncond"],
        pad=pad,
        empty=encoding.empty() if pad == "empty" else None,
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


def decode(job: Job, latents: Latents, model: LoadedModel) -> list[Image.Image]:
    """Pictures from latents, one after the other."""
    with torch.inference_mode():
        return [to_image(decoded) for decoded in model.decode(latents.samples)]


def enlarged(hires: HiresPlan, latents: Latents, before: Sequence[Image.Image] | None, model: LoadedModel) -> Latents:
    """The first pass at the second one's size, in latents or by way of pictures."""
    if hires.is_latent:
        return upscaled(latents, hires)
    assert before is not None, "an image upscaler needs the decoded pictures"
    target = hires.sampling
    bigger = [resized(image, hires.upscaler, hires.upscale_width, hires.upscale_height) for image in before]
    images = [cropped_to(image, target.width, target.height) for image in bigger]
    with torch.inference_mode():
        encoded: Tensor = model.encode(torch.stack([to_tensor(image) for image in images]).to(model.device))
    return Latents(encoded.float())


class RefinerSwitch(DenoiserHook):
    """Hands over to the refiner's checkpoint once enough of the noise (or of the steps) is behind."""

    order = 1000

    def __init__(
        self, plan: GenerationPlan, guidance: ClassifierFreeGuidance, active: ActiveNetwork, switch: Callable[[], None]
    ) -> None:
        assert plan.refiner is not None
        self.refiner = plan.refiner
        self.guidance = guidance
        self.active = active
        self.switch: Callable[[], None] | None = switch

    def wrap_denoiser(self, denoise: Denoise) -> Denoise:
        def switching(x: Tensor, sigma: float, step: Step) -> Tensor:
            if self.switch is not None and self.completed(sigma) >= self.refiner.switch_at:
                self.switch()
                self.switch = None
            return denoise(x, sigma, step)

        return switching

    def completed(self, sigma: float) -> float:
        """The share of the way that is behind, 0..1."""
        if self.refiner.by_steps:
            return self.guidance.call / self.guidance.options.total_calls
        nearest_timestep = int((self.active.table.sigmas - sigma).abs().argmin())
        return (len(self.active.table.sigmas) - 1 - nearest_timestep) / 1000


def _refines(plan: GenerationPlan, is_second: bool) -> bool:
    """Whether this pass is one that the refiner takes part in."""
    assert plan.refiner is not None
    if plan.hires is None or plan.refiner.passes == "both passes":
        return True
    return (plan.refiner.passes == "second pass") == is_second


def _report_refiner(job: Job) -> None:
    refiner = job.plan.refiner
    assert refiner is not None
    if job.plan.hires is not None and refiner.passes != "second pass":
        job.report.fields["Hires refiner"] = refiner.passes
    if refiner.by_steps:
        job.report.fields["Refiner switch by sampling steps"] = True
    checkpoint = refiner.checkpoint
    job.report.fields["Refiner"] = f"{checkpoint.model_name} [{checkpoint.shorthash}]"
    job.report.fields["Refiner switch at"] = refiner.switch_at


def _report_options(
    job: Job, sampling: SamplingPlan, active: ActiveNetwork, prompts: Iterable[str], negative_prompts: Iterable[str]
) -> None:
    """Settings that change the picture, under their infotext keys."""
    settings, sampler, fields = job.plan.settings, sampling.sampler, job.report.fields
    texts = [*prompts, *negative_prompts]
    uses_emphasis = any("(" in text or "[" in text for text in texts)
    options = schedule_options(sampling, settings)
    shown: dict[str, object] = {
        "Noise Schedule": settings["sd_noise_schedule"] if settings["sd_noise_schedule"] != "Default" else None,
        "Downcast alphas_cumprod": settings["use_downcasted_alpha_bar"] or None,
        "Emphasis": settings["emphasis"] if settings["emphasis"] != "Original" and uses_emphasis else None,
    }
    if not sampler.timesteps:
        always = settings["always_discard_next_to_last_sigma"] and not sampler.discard_next_to_last_sigma
        shown["Discard penultimate sigma"] = always or None
        shown |= shown_options(sampling.schedule, active.table, options)
        shown["SGM noise multiplier"] = settings["sgm_noise_multiplier"] or None
    if takes_eta(sampler) and sampling.eta != sampling.default_eta:
        shown["Eta DDIM" if sampler.timesteps else "Eta"] = sampling.eta
    for key, default in (("s_churn", 0.0), ("s_tmin", 0.0), ("s_tmax", 0.0), ("s_noise", 1.0)):
        if key in sampler.extra_options and settings[key] != default:
            shown[f"Sigma {key.removeprefix('s_')}"] = settings[key]
    fields.update({key: value for key, value in shown.items() if value is not None})


def _report_guidance(job: Job, guidance: ClassifierFreeGuidance) -> None:
    """Options of guidance that had an effect."""
    options, fields = guidance.options, job.report.fields
    if guidance.skipped_early:
        fields["Skip Early CFG"] = options.skip_early
    if guidance.skipped_low:
        fields["NGMS"] = options.min_sigma
        if options.min_sigma_all:
            fields["NGMS all steps"] = True
    if guidance.padded:
        fields["Pad conds v0" if options.pad == "repeat" else "Pad conds"] = True


def _save_before_hires(job: Job, pictures: Sequence[Image.Image], indices: range) -> None:
    if not job.plan.settings["save_images_before_highres_fix"] or not job.plan.request.save_samples:
        return
    for index, picture in zip(indices, pictures, strict=True):
        text = image_infotext(job.plan, index, job.report.fields)
        job.saver.sample(picture, index, text, suffix="-before-highres-fix")


def _remember(job: Job) -> None:
    """Keep the job's infotext in params.txt, before anything can go wrong, for the page's "read the last one"."""
    if job.engine.flags.no_prompt_history:
        return
    try:
        write_atomic(job.engine.paths.params_txt, image_infotext(job.plan, 0, {}).encode())
    except OSError as error:
        job.report.comment(f"The prompt can't be kept in {job.engine.paths.params_txt}: {error.strerror}.")


def _saved(job: Job, picture: Image.Image, index: int) -> ResultImage:
    text = image_infotext(job.plan, index, job.report.fields)
    save = job.plan.request.save_samples and job.plan.settings["samples_save"]
    try:
        result = job.saver.sample(picture, index, text, save=save)
    except WebuiError as error:
        job.report.comment(str(error))
        result = job.saver.sample(picture, index, text, save=False)
    if result.path is not None:
        job.engine.host.image_saved(Path(result.path), picture, job.plan)
    return result


def _with_grid(job: Job, pictures: Sequence[Image.Image], results: list[ResultImage]) -> list[ResultImage]:
    settings = job.plan.settings
    if not (settings["return_grid"] or settings["grid_save"]):
        return results
    rows = grid_rows(len(pictures), job.plan.request.batch_size, settings)
    grid = make_grid(pictures, rows, settings["grid_background_color"])
    text = image_infotext(job.plan, 0, job.report.fields)
    saved = job.saver.grid(grid, text, save=job.plan.request.save_grid)
    return [saved, *results] if settings["return_grid"] else results


def _info(job: Job, results: Sequence[ResultImage]) -> dict[str, object]:
    """The facts of the job under /sdapi/v1's names."""
    plan, request, first = job.plan, job.plan.request, job.plan.first
    variation = request.variation
    return {
        "prompt": first.prompts[0],
        "all_prompts": list(first.prompts),
        "negative_prompt": first.negative_prompts[0],
        "all_negative_prompts": list(first.negative_prompts),
        "seed": plan.seeds[0],
        "all_seeds": list(plan.seeds),
        "subseed": plan.subseeds[0],
        "all_subseeds": list(plan.subseeds),
        "subseed_strength": variation.strength,
        "width": first.width,
        "height": first.height,
        "sampler_name": first.sampler.name,
        "cfg_scale": request.cfg_scale,
        "steps": first.steps,
        "batch_size": request.batch_size,
        "restore_faces": bool(request.restore_faces),
        "face_restoration_model": None,
        "sd_model_name": first.checkpoint.model_name,
        "sd_model_hash": first.checkpoint.shorthash,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": variation.resize_from_width,
        "seed_resize_from_h": variation.resize_from_height,
        "denoising_strength": plan.hires.sampling.denoise if plan.hires else None,
        "extra_generation_params": dict(job.report.fields),
        "index_of_first_image": 1 if results and results[0].is_grid else 0,
        "infotexts": [result.infotext for result in results],
        "styles": list(request.styles),
        "job_timestamp": job.progress.progress.job_timestamp,
        "clip_skip": plan.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": A1111_VERSION,
    }
