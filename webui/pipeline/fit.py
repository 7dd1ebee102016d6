"""Whether a loaded model can do what a pass asks of it: told in one sentence, before anything is sampled."""

from __future__ import annotations

from webui.core.errors import InvalidRequest
from webui.models.families.base import LoadedModel
from webui.pipeline.plan import SamplingPlan


def require_fit(model: LoadedModel, sampling: SamplingPlan) -> None:
    """Raises: InvalidRequest when the model can't be sampled by this sampler or schedule, or at this size."""
    capabilities, name = model.capabilities, model.checkpoint.model_name
    hindrance = capabilities.why_not(sampling.sampler, sampling.schedule)
    if hindrance:
        raise InvalidRequest(f"{name} can't be sampled {hindrance}.")
    step = capabilities.size_step
    if sampling.width % step or sampling.height % step:
        fitting = f"{sampling.width // step * step or step}x{sampling.height // step * step or step}"
        raise InvalidRequest(
            f"{name} makes pictures whose sides are multiples of {step}, not {sampling.width}x{sampling.height}; "
            f"{fitting} fits."
        )
