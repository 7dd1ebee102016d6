"""The network as a denoiser: its output, whatever it predicts, turned into x0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from webui.core.errors import WebuiError
from webui.core.hooks import Residuals, Row
from webui.diffusion.schedules import NoiseTable

if TYPE_CHECKING:
    from webui.core.hooks import Call, Predict, Step


@dataclass(frozen=True)
class Cond:
    """What the network is conditioned on, a row for each row of x.

    context: (N, T, D) text vectors.
    pooled: (N, P) one vector a row for networks that take it (SDXL: pooled text and sizes), else None.
    channels: (N, C', h, w) what the network reads beside x (an inpainting model's mask and masked picture), else None.
    rows: what each row is; () where nobody said. residuals: what is added inside the network, None for nothing.
    """

    context: Tensor
    pooled: Tensor | None = None
    channels: Tensor | None = None
    rows: tuple[Row, ...] = ()
    residuals: Residuals | None = None

    @classmethod
    def cat(cls, *conds: Cond) -> Cond:
        """Their rows one after the other; contexts must be of one length. Residuals are added to whole calls only."""
        assert all(cond.residuals is None for cond in conds)
        return cls(
            torch.cat([cond.context for cond in conds]),
            _cat([cond.pooled for cond in conds]),
            _cat([cond.channels for cond in conds]),
            sum((cond.rows for cond in conds), ()),
        )

    def adding(self, residuals: Residuals) -> Cond:
        """With these beside those that are added already."""
        return replace(self, residuals=residuals if self.residuals is None else self.residuals + residuals)


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    assert len(present) in (0, len(parts)), "either all rows have it or none"
    return torch.cat(present) if present else None


class NotANumber(WebuiError):
    """The network's output holds no numbers; half precision overflowed or the file is damaged."""

    status = 500


@dataclass(frozen=True)
class Network:
    """A network that denoises. call: (x (N, C, h, w), timesteps (N,), cond) -> output (N, C, h, w)."""

    call: Call
    table: NoiseTable
    prediction: Literal["eps", "v", "flow"]
    consistency: bool = False


def network_denoiser(network: Network) -> Predict:
    """x0 from the network, for eps-, v- and flow prediction.

    Source: Karras et al. 2022, arXiv:2206.00364, table 1 (VP column); Salimans and Ho 2022,
    arXiv:2202.00512, for v; Lipman et al. 2022, arXiv:2210.02747, for flows, which get x as it is and answer
    noise - x0. The factors are rounded to single precision at each operation, as A1111's are.
    """

    def predict(x: Tensor, sigma: float, cond: Cond, step: Step) -> Tensor:
        level = np.float32(sigma)
        total = level * level + np.float32(1)
        scale = 1.0 if network.prediction == "flow" else float(1 / np.sqrt(total))
        time = network.table.told(sigma) if step.timestep is None else step.timestep
        output = network.call(x * scale, torch.full((x.shape[0],), time, device=x.device), cond).float()
        if network.prediction == "v":
            x0 = x * float(1 / total) - output * float(level / np.sqrt(total))
        else:
            x0 = x - output * sigma
        return consistent(x0, x, time) if network.consistency else x0

    return predict


def consistent(x0: Tensor, x: Tensor, timestep: float) -> Tensor:
    """The prediction of a latent consistency model, which leaves x alone at the end of the way.

    Source: Luo et al. 2023, arXiv:2310.04378, eq. for c_skip and c_out with sigma_data 0.5 and time scale 10.
    """
    scaled = 10 * timestep
    skip = 0.25 / (scaled**2 + 0.25)
    return x0 * (scaled / math.sqrt(scaled**2 + 0.25)) + x * skip


def require_numbers(output: Tensor) -> None:
    """Raises: NotANumber when the whole of `output` is NaN."""
    if torch.isnan(output).all():
        raise NotANumber(
            "The model produced no valid picture (only NaN): its half precision overflowed or the file is damaged. "
            "Start Easel with --no-half, or choose another checkpoint."
        )
