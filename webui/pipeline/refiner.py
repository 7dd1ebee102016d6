"""The refiner: another checkpoint for the last part of the way."""

from __future__ import annotations

from collections.abc import Callable

from webui.diffusion.guidance import ClassifierFreeGuidance
from webui.diffusion.schedules import NoiseTable
from webui.pipeline.passes import Pass, PassKind, PassParts
from webui.planning.plan import GenerationPlan, RefinerPlan


class Refiner:
    """When a pass's refiner takes over, and with what. It is opened when it is due for the first time.

    relieve: puts it in place and makes its pass.
    """

    def __init__(self, plan: RefinerPlan, relieve: Callable[[], tuple[Pass, PassParts]]) -> None:
        self.plan = plan
        self._relieve = relieve
        self._opened: tuple[Pass, PassParts] | None = None

    def is_due(self, sigma: float, table: NoiseTable, guidance: ClassifierFreeGuidance) -> bool:
        """Whether enough of the noise (or of the steps) is behind. table, guidance: of the model at work."""
        if self.plan.by_steps:
            return guidance.call / guidance.options.total_calls >= self.plan.switch_at
        nearest_timestep = int((table.sigmas - sigma).abs().argmin())
        return (len(table.sigmas) - 1 - nearest_timestep) / 1000 >= self.plan.switch_at

    def opened(self) -> tuple[Pass, PassParts]:
        if self._opened is None:
            self._opened = self._relieve()
        return self._opened

    def last_pass(self, first: Pass) -> Pass:
        """The pass whose model made the end: `first` if the refiner's turn never came."""
        return self._opened[0] if self._opened else first


def refines(plan: GenerationPlan, kind: PassKind) -> bool:
    """Whether this pass is one that the refiner takes part in."""
    assert plan.refiner is not None
    if plan.hires is None or plan.refiner.passes == "both passes":
        return True
    return (plan.refiner.passes == "second pass") == (kind == "hires")
