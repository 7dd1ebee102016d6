"""Which share of the steps is behind, which decides what units act."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from webui.extensions.api import DenoiserHook, Step

if TYPE_CHECKING:
    from torch import Tensor


class Ranged(DenoiserHook):
    """A hook that knows in `share` which share of the steps is behind."""

    def __init__(self) -> None:
        self.share = 0.0
        self._passed = 0

    def wrap_denoiser(self, denoise: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def counting(x: Tensor, sigma: float, step: Step) -> Tensor:
            # A1111 counts a step once its first prediction is there, so each first call belongs to the step before.
            self.share = self._passed / step.count
            x0 = denoise(x, sigma, step)
            self._passed = step.index
            return x0

        return counting
