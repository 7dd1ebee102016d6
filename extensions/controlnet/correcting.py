"""What some preprocessors do to the network's output: keep colours, or what lies outside a mask; in the worker only."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import copy
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

SHARPENING = 0.01
"""Of the parameter Sharpness: the share of the blurred prediction that negative prompts get."""


class Corrector(ABC):
    """Corrects the clean prediction of every row. latent: (1, C, h, w) of the unit's picture, in the model's scale.

    strength: 0 to 1, how much of the correction is taken.
    """

    def __init__(self, model: Any, latent: Tensor, strength: float):
        self.alphas = model.alphas_cumprod
        self.is_v = model.capabilities.prediction == "v"
        self.latent = latent
        self.strength = min(max(strength, 0.0), 1.0)

    def with_strength(self, strength: float) -> Self:
        """The same correction, more or less of it."""
        other = copy(self)
        other.strength = min(max(strength, 0.0), 1.0)
        return other

    def corrected(self, output: Tensor, x: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
        """output: of the network for the scaled x (N, C, h, w). Returns: the same kind of output."""
        alpha = float(self.alphas[round(float(timesteps[0]))])
        signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
        exact = x.float()
        given = output.float()
        x0 = signal * exact - noise * given if self.is_v else (exact - noise * given) / signal
        wanted = self.x0(x0, self.latent.to(x0), cond)
        made = (signal * exact - wanted) / noise if self.is_v else (exact - signal * wanted) / noise
        return (made * self.strength + given * (1 - self.strength)).to(output.dtype)

    @abstractmethod
    def x0(self, x0: Tensor, latent: Tensor, cond: Any) -> Tensor:
        """The clean prediction as it should be."""


class KeepsColours(Corrector):
    """Takes the blurred colours of the picture and the prediction's own detail. radius: latent pixels."""

    def __init__(self, model: Any, latent: Tensor, strength: float, radius: int, sharpness: float):
        super().__init__(model, latent, strength)
        self.radius = radius
        self.sharpness = sharpness

    def x0(self, x0: Tensor, latent: Tensor, cond: Any) -> Tensor:
        fixed = x0 - box_blurred(x0, self.radius) + box_blurred(latent, self.radius)
        if not self.sharpness:
            return fixed
        share = self.sharpness * SHARPENING
        softer = share * box_blurred(fixed, self.radius) + (1 - share) * fixed
        signs = torch.tensor([float(row.sign > 0) for row in cond.rows]).view(-1, 1, 1, 1).to(fixed)
        return signs * fixed + (1 - signs) * softer


class KeepsOutside(Corrector):
    """Outside of the mask the prediction is the picture. mask: (1, 1, H, W), 1 where it is painted."""

    def __init__(self, model: Any, latent: Tensor, strength: float, mask: Tensor):
        super().__init__(model, latent, strength)
        self.mask = F.max_pool2d(mask, 10, stride=8, padding=1)

    def x0(self, x0: Tensor, latent: Tensor, cond: Any) -> Tensor:
        mask = self.mask.to(x0)
        return latent * (1 - mask) + x0 * mask


def box_blurred(x: Tensor, radius: int) -> Tensor:
    padded = F.pad(x, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)
