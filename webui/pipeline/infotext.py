"""The text that a picture carries: which fields of a plan, in which order."""

from __future__ import annotations

from collections.abc import Mapping

from webui.core.infotext import ordered, render
from webui.core.request import GenerationRequest
from webui.core.version import A1111_VERSION
from webui.planning.plan import GenerationPlan

KEYS: Mapping[str, str] = {spec.dotted: spec.infotext for spec in GenerationRequest.specs() if spec.infotext}
"""The infotext key of each parameter, as it is declared with it."""


def base_fields(plan: GenerationPlan) -> dict[str, object]:
    """Fields that are equal for all pictures of a job; None ones are left out when written.

    Those without a place of their own in the text keep this order: extensions' before the second pass's, as in A1111.
    """
    fields = {KEYS.get(path, path): value for path, value in _parameters(plan).items()}
    return _extension_fields(plan) | fields | _facts(plan)


def _parameters(plan: GenerationPlan) -> dict[str, object]:
    """The value to be written for each parameter of the request that has a key; None for those that say nothing."""
    first, hires, variation = plan.first, plan.hires, plan.request.variation
    values: dict[str, object] = {
        "steps": first.steps,
        "sampler": first.sampler.name,
        "scheduler": first.schedule.label,
        "cfg_scale": plan.request.cfg_scale,
        "variation.strength": variation.strength or None,
        "hires.denoising_strength": hires.sampling.denoise if hires else first.denoise,
        "tiling": True if plan.tiling else None,
        "restore_faces": None,  # told by whoever does it
    }
    if hires:
        asked, second = plan.request.hires, hires.sampling
        assert asked is not None
        resized = bool(asked.resize_width or asked.resize_height)
        values |= {
            "hires.checkpoint": second.checkpoint.model_name if second.checkpoint != first.checkpoint else None,
            "hires.sampler": second.sampler.name if second.sampler != first.sampler else None,
            "hires.scheduler": second.schedule.label if second.schedule != first.schedule else None,
            "hires.prompt": asked.prompt if second.prompts != first.prompts else None,
            "hires.negative_prompt": asked.negative_prompt
            if second.negative_prompts != first.negative_prompts
            else None,
            "hires.scale": None if resized else asked.scale,
            "Hires resize": f"{asked.resize_width}x{asked.resize_height}" if resized else None,
            "hires.steps": asked.steps or None,
            "hires.upscaler": hires.upscaler,
        }
    return values


def _facts(plan: GenerationPlan) -> dict[str, object]:
    """What the plan knows beyond the request's parameters: sizes, the model, settings."""
    first, settings, variation = plan.first, plan.settings, plan.request.variation
    from_size = variation.resize_from_width, variation.resize_from_height
    seed_delta = settings["eta_noise_seed_delta"]
    facts: dict[str, object] = {
        "Size": f"{first.width}x{first.height}",
        "Model hash": first.checkpoint.shorthash if settings["add_model_hash_to_info"] else None,
        "Model": first.checkpoint.model_name if settings["add_model_name_to_info"] else None,
        "Seed resize from": f"{from_size[0]}x{from_size[1]}" if min(from_size) > 0 else None,
        "Clip skip": plan.clip_skip if plan.clip_skip > 1 else None,
        "ENSD": seed_delta if seed_delta and first.sampler.uses_ensd and first.eta else None,
        "Token merging ratio": first.token_merging or None,
        "Token merging ratio hr": plan.hires.sampling.token_merging or None if plan.hires else None,
        "RNG": settings["randn_source"] if settings["randn_source"] != "GPU" else None,
    }
    facts |= _vae_fields(plan)
    if settings["add_user_name_to_info"]:
        facts["User"] = plan.request.user
    if settings["add_version_to_infotext"]:
        facts["Version"] = A1111_VERSION
    return facts


def _vae_fields(plan: GenerationPlan) -> dict[str, object]:
    """The infotext's fields; None where there is nothing to say."""
    use = plan.vae_of(plan.first.checkpoint)
    settings, file = plan.settings, use.file
    return {
        "VAE hash": file.shorthash if file and settings["add_vae_hash_to_info"] else None,
        "VAE": file.name if file and settings["add_vae_name_to_info"] else None,
        "VAE Decoder": use.decoder if use.decoder != "Full" else None,
        "VAE Encoder": use.encoder if use.encoder != "Full" and plan.request.image is not None else None,
    }


def _extension_fields(plan: GenerationPlan) -> dict[str, object]:
    """What extensions' parameters tell of themselves."""
    return {key: value for group in plan.request.extensions.values() for key, value in group.to_infotext().items()}


def image_infotext(plan: GenerationPlan, index: int, extra: Mapping[str, object]) -> str:
    """The text of one picture. extra: what sampling and extensions report, by key."""
    fields = base_fields(plan) | dict(extra)
    fields[KEYS["seed"]] = plan.seeds[index]
    if plan.request.variation.strength:
        fields[KEYS["variation.seed"]] = plan.subseeds[index]
    prompt, negative = plan.written or (plan.first.prompts[index], plan.first.negative_prompts[index])
    return render(prompt, negative, ordered(fields))
