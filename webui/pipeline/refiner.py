"""The refiner: another checkpoint for the last part of the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from webui.core.hooks import DenoiserHook, Step
from webui.diffusion.denoiser import ActiveNetwork
from webui.diffusion.guidance import ClassifierFreeGuidance
from webui.planning.plan import GenerationPlan

if TYPE_CHECKING:
    from webui.core.hooks import Denoise


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


def refines(plan: GenerationPlan, is_second: bool) -> bool:
    """Whether this pass is one that the refiner takes part in."""
    assert plan.refiner is not None
    if plan.hires is None or plan.refiner.passes == "both passes":
        return True
    return (plan.refiner.passes == "second pass") == is_second
