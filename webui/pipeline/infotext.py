"""The text that a picture carries: which fields of a plan, in which order."""

from __future__ import annotations

from collections.abc import Mapping

from webui.core.infotext import ordered, render
from webui.core.version import A1111_VERSION
from webui.pipeline.plan import GenerationPlan, HiresPlan


def base_fields(plan: GenerationPlan) -> dict[str, object]:
    """Fields that are equal for all pictures of a job; None ones are left out when written."""
    first, settings, request = plan.first, plan.settings, plan.request
    variation = request.variation
    resize = variation.resize_from_width > 0 and variation.resize_from_height > 0
    seed_delta = settings["eta_noise_seed_delta"]
    fields: dict[str, object] = {
        "Steps": first.steps,
        "Sampler": first.sampler.name,
        "Schedule type": first.schedule.label,
        "CFG scale": request.cfg_scale,
        "Seed": None,
        "Face restoration": None,
        "Size": f"{first.width}x{first.height}",
        "Model hash": first.checkpoint.shorthash if settings["add_model_hash_to_info"] else None,
        "Model": first.checkpoint.model_name if settings["add_model_name_to_info"] else None,
        "Variation seed": None,
        "Variation seed strength": variation.strength or None,
        "Seed resize from": f"{variation.resize_from_width}x{variation.resize_from_height}" if resize else None,
        "Denoising strength": plan.hires.sampling.denoise if plan.hires else None,
        "Clip skip": plan.clip_skip if plan.clip_skip > 1 else None,
        "ENSD": seed_delta if seed_delta and first.sampler.uses_ensd and first.eta else None,
        "RNG": settings["randn_source"] if settings["randn_source"] != "GPU" else None,
        "Tiling": True if plan.tiling else None,
        **(_hires_fields(plan, plan.hires) if plan.hires else {}),
    }
    if settings["add_user_name_to_info"]:
        fields["User"] = request.user
    if settings["add_version_to_infotext"]:
        fields["Version"] = A1111_VERSION
    return fields


def _hires_fields(plan: GenerationPlan, hires: HiresPlan) -> Mapping[str, object]:
    first, second, asked = plan.first, hires.sampling, plan.request.hires
    assert asked is not None
    resized = bool(asked.resize_width or asked.resize_height)
    return {
        "Hires checkpoint": second.checkpoint.model_name if second.checkpoint != first.checkpoint else None,
        "Hires sampler": second.sampler.name if second.sampler != first.sampler else None,
        "Hires schedule type": second.schedule.label if second.schedule != first.schedule else None,
        "Hires prompt": asked.prompt if second.prompts != first.prompts else None,
        "Hires negative prompt": asked.negative_prompt if second.negative_prompts != first.negative_prompts else None,
        "Hires upscale": None if resized else asked.scale,
        "Hires resize": f"{asked.resize_width}x{asked.resize_height}" if resized else None,
        "Hires steps": asked.steps or None,
        "Hires upscaler": asked.upscaler,
    }


def image_infotext(plan: GenerationPlan, index: int, extra: Mapping[str, object]) -> str:
    """The text of one picture. extra: what sampling and extensions report, by key."""
    fields = base_fields(plan) | dict(extra)
    fields["Seed"] = plan.seeds[index]
    if plan.request.variation.strength:
        fields["Variation seed"] = plan.subseeds[index]
    return render(plan.first.prompts[index], plan.first.negative_prompts[index], ordered(fields))
