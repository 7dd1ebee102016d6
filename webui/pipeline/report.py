"""What a job tells about itself: fields of the infotext, facts for /sdapi/v1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from webui.core.results import ResultFile
from webui.core.version import A1111_VERSION
from webui.diffusion.guidance import ClassifierFreeGuidance
from webui.diffusion.schedules import NoiseTable, shown_options
from webui.models.families.base import LoadedModel
from webui.pipeline.job import Job, Report
from webui.pipeline.latents import schedule_options, takes_eta
from webui.planning.plan import SamplingPlan

CONDITIONAL_MASK_WEIGHT = "Conditional mask weight"


def report_model(job: Job, model: LoadedModel) -> None:
    """What models that read a picture beside the latent are told."""
    image, kind = job.plan.request.image, model.capabilities.input_kind
    if kind == "inpaint":
        job.report.fields[CONDITIONAL_MASK_WEIGHT] = job.plan.settings["inpainting_mask_weight"]
    elif kind == "edit" and image is not None and image.image_cfg_scale is not None:
        job.report.fields["Image CFG scale"] = image.image_cfg_scale


def report_refiner(job: Job) -> None:
    """The refiner that took over."""
    refiner = job.plan.refiner
    assert refiner is not None
    if job.plan.hires is not None and refiner.passes != "second pass":
        job.report.fields["Hires refiner"] = refiner.passes
    if refiner.by_steps:
        job.report.fields["Refiner switch by sampling steps"] = True
    checkpoint = refiner.checkpoint
    job.report.fields["Refiner"] = f"{checkpoint.model_name} [{checkpoint.shorthash}]"
    job.report.fields["Refiner switch at"] = refiner.switch_at


def report_options(
    job: Job, sampling: SamplingPlan, table: NoiseTable, prompts: Iterable[str], negative_prompts: Iterable[str]
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
        "Noise multiplier": sampling.noise_multiplier if sampling.noise_multiplier != 1 else None,
    }
    if not sampler.timesteps:
        always = settings["always_discard_next_to_last_sigma"] and not sampler.discard_next_to_last_sigma
        shown["Discard penultimate sigma"] = always or None
        shown |= shown_options(sampling.schedule, table, options)
        shown["SGM noise multiplier"] = (settings["sgm_noise_multiplier"] and sampling.denoise is None) or None
    shown["Extra noise"] = sampling.extra_noise or None
    if takes_eta(sampler) and sampling.eta != sampling.default_eta:
        shown["Eta DDIM" if sampler.timesteps else "Eta"] = sampling.eta
    for key, default in (("s_churn", 0.0), ("s_tmin", 0.0), ("s_tmax", 0.0), ("s_noise", 1.0)):
        if key in sampler.extra_options and settings[key] != default:
            shown[f"Sigma {key.removeprefix('s_')}"] = settings[key]
    fields.update({key: value for key, value in shown.items() if value is not None})


def report_guidance(report: Report, guidance: ClassifierFreeGuidance) -> None:
    """Options of guidance that had an effect."""
    options, fields = guidance.options, report.fields
    if guidance.skipped_early:
        fields["Skip Early CFG"] = options.skip_early
    if guidance.skipped_low:
        fields["NGMS"] = options.min_sigma
        if options.min_sigma_all:
            fields["NGMS all steps"] = True
    if guidance.padded:
        fields["Pad conds v0" if options.pad == "repeat" else "Pad conds"] = True


def job_info(job: Job, results: Sequence[ResultFile]) -> dict[str, object]:
    """The facts of the job under /sdapi/v1's names."""
    plan, request, first = job.plan, job.plan.request, job.plan.first
    variation, vae = request.variation, plan.vae_of(first.checkpoint).file
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
        "restore_faces": plan.face_restorer is not None,
        "face_restoration_model": plan.face_restorer,
        "sd_model_name": first.checkpoint.model_name,
        "sd_model_hash": first.checkpoint.shorthash,
        "sd_vae_name": vae.name if vae else None,
        "sd_vae_hash": vae.shorthash if vae else None,
        "seed_resize_from_w": variation.resize_from_width,
        "seed_resize_from_h": variation.resize_from_height,
        "denoising_strength": plan.hires.sampling.denoise if plan.hires else first.denoise,
        "extra_generation_params": dict(job.report.fields),
        "index_of_first_image": 1 if results and results[0].is_grid else 0,
        "infotexts": [result.infotext for result in results if result.infotext],
        "styles": list(request.styles),
        "job_timestamp": job.progress.progress.job_timestamp,
        "clip_skip": plan.clip_skip,
        "is_using_inpainting_conditioning": CONDITIONAL_MASK_WEIGHT in job.report.fields,
        "version": A1111_VERSION,
    }
