"""The network as a denoiser: its output, whatever it predicts, turned into x0."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from webui.core.errors import WebuiError
from webui.diffusion.schedules import NoiseTable

if TYPE_CHECKING:
    from webui.core.hooks import Predict, Step

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (N, C, h, w), timesteps (N,), context (N, T, D)) -> output (N, C, h, w)."""


@dataclass(frozen=True)
class Cond:
    """What the network is conditioned on, a row for each row of x. context: (N, T, D) text vectors."""

    context: Tensor


class NotANumber(WebuiError):
    """The network's output holds no numbers; half precision overflowed or the file is damaged."""

    status = 500


@dataclass
class ActiveNetwork:
    """The network that denoises now; a refiner takes over by replacing these."""

    network: Network
    table: NoiseTable
    prediction: Literal["eps", "v"]


def network_denoiser(active: ActiveNetwork) -> Predict:
    """x0 from the network of `active`, for eps- and v-prediction.

    Source: Karras et al. 2022, arXiv:2206.00364, table 1 (VP column); Salimans and Ho 2022,
    arXiv:2202.00512, for v.
    """

    def predict(x: Tensor, sigma: float, cond: Cond, step: Step) -> Tensor:
        scale = 1 / math.sqrt(sigma**2 + 1)
        timesteps = torch.full((x.shape[0],), active.table.timestep(sigma), device=x.device)
        output = active.network(x * scale, timesteps, cond.context).float()
        if active.prediction == "v":
            return x * scale**2 - output * (sigma * scale)
        return x - output * sigma

    return predict


def require_numbers(output: Tensor) -> None:
    """Raises: NotANumber when the whole of `output` is NaN."""
    if torch.isnan(output).all():
        raise NotANumber(
            "The model produced no valid picture (only NaN): its half precision overflowed or the file is damaged. "
            "Start Easel with --no-half, or choose another checkpoint."
        )
