"""Whether a loaded model can do what a pass asks of it: told in one sentence, before anything is sampled."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from webui.core.effects import ineffective
from webui.core.errors import InvalidRequest
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.models.families.base import LoadedModel
from webui.pipeline.latents import takes_eta
from webui.planning.plan import GenerationPlan, SamplingPlan


def require_fit(model: LoadedModel, sampling: SamplingPlan, start: Tensor | None = None) -> None:
    """start: (B, C, h, w) latents that the pass begins from, of whatever model made them.

    Raises: InvalidRequest when the model can't be sampled by this sampler or schedule, at this size or from there.
    """
    capabilities, name = model.capabilities, model.checkpoint.model_name
    hindrance = capabilities.why_not(sampling.sampler, sampling.schedule)
    if hindrance:
        raise InvalidRequest(f"{name} can't be sampled {hindrance}.")
    step = capabilities.size_step
    if sampling.width // 8 * 8 % step or sampling.height // 8 * 8 % step:  # latents round down
        fitting = f"{sampling.width // step * step or step}x{sampling.height // step * step or step}"
        raise InvalidRequest(
            f"{name} makes pictures whose sides are multiples of {step}, not {sampling.width}x{sampling.height}; "
            f"{fitting} fits."
        )
    if start is not None and start.shape[1] != capabilities.latent_channels:
        raise InvalidRequest(
            f"{name} can't go on from the first pass's latents: they have {start.shape[1]} channels, its own "
            f"{capabilities.latent_channels}. Choose an upscaler that works on pictures, such as Lanczos."
        )


def require_handover(model: LoadedModel, refiner: LoadedModel) -> None:
    """Raises: InvalidRequest when the refiner can't go on with what the model began."""
    ours, theirs = model.capabilities, refiner.capabilities
    if (ours.latent_channels, ours.prediction == "flow") != (theirs.latent_channels, theirs.prediction == "flow"):
        raise InvalidRequest(
            f"{refiner.checkpoint.model_name} can't refine what {model.checkpoint.model_name} begins: they work on "
            "different latents. Choose a refiner of the same family."
        )


def idle_wishes(request: GenerationRequest, plan: GenerationPlan, defaults: Settings) -> Iterator[str]:
    """Sentences about what the request asks for and no part of this version, or of this job, heeds.

    defaults: the settings without this job's own.
    """
    yield from ineffective(key for key, value in request.overrides.items() if value != defaults[key])
    variation = request.variation
    if variation.seed != -1 and variation.strength == 0:
        yield "The variation seed has no effect while the variation strength is 0."
    if (variation.resize_from_width > 0) != (variation.resize_from_height > 0):
        yield "Resizing the seed has no effect until both width and height are given."
    passes = [plan.first, *([plan.hires.sampling] if plan.hires else [])]
    options = request.sampler_options
    names = " and ".join(dict.fromkeys(sampling.sampler.name for sampling in passes))
    usual = (None, defaults["eta_ancestral"], defaults["eta_ddim"])
    if options.eta not in usual and not any(takes_eta(sampling.sampler) for sampling in passes):
        yield f"eta has no effect with {names}."
    for key in ("s_churn", "s_tmin", "s_tmax", "s_noise"):
        wished = getattr(options, key)
        heeded = any(key in sampling.sampler.extra_options for sampling in passes)
        if wished is not None and wished != defaults[key] and not heeded:
            yield f"{key} has no effect with {names}."


def without_effect(model: LoadedModel, plan: GenerationPlan, sampling: SamplingPlan) -> Iterator[str]:
    """Sentences about settings of this job that the model has no use for."""
    settings, name, capabilities = plan.settings, model.checkpoint.model_name, model.capabilities
    if capabilities.prediction == "flow" and (
        settings["sd_noise_schedule"] != "Default" or settings["use_downcasted_alpha_bar"]
    ):
        yield f"Noise schedule and downcast alpha bar have no effect on {name}, which learned a flow."
    if not capabilities.unet and (sampling.token_merging or plan.tiling):
        yield f"Token merging and tiling have no effect on {name}, whose network is not a U-Net."
    image = plan.request.image
    if image is not None and image.image_cfg_scale is not None and capabilities.input_kind != "edit":
        yield f"Image CFG scale has no effect on {name}, which is no instruct-pix2pix model."
    obeys = {encoder.skips for encoder in model.text_encoders}
    if plan.clip_skip > 1 and "always" not in obeys and not ("when asked" in obeys and settings["sdxl_clip_l_skip"]):
        how = "; the setting sdxl_clip_l_skip lets its first text encoder obey" if "when asked" in obeys else ""
        yield f"Clip skip has no effect on {name}{how}."
