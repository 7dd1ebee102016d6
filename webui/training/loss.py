"""What a training minimises: noise of a random level is added to latents, and the network is to tell it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from webui.core.training import LossOptions


@dataclass(frozen=True)
class Noised:
    """x: (N, C, h, w) what the network is given. timesteps: (N,) whole numbers as int64. target: what it should answer.

    All on the CPU, fp32.
    """

    x: Tensor
    timesteps: Tensor
    target: Tensor


@dataclass(frozen=True)
class Objective:
    """alphas_cumprod: (T,) of the model's noise table. prediction: what the network answers, "eps" or "v"."""

    options: LossOptions
    alphas_cumprod: Tensor
    prediction: str

    def add_noise(self, latents: Tensor, generator: torch.Generator) -> Noised:
        """latents: (N, C, h, w) scaled. generator: on the CPU; all chance comes from it."""
        options, count = self.options, len(latents)
        noise = self._noise(latents, generator)
        highest = min(options.max_timestep, len(self.alphas_cumprod))
        timesteps = torch.randint(options.min_timestep, highest, (count,), generator=generator)
        picture, spread = self._shares(timesteps)
        mixed = noise
        if options.ip_noise_gamma:
            strength = options.ip_noise_gamma
            if options.ip_noise_gamma_random_strength:
                strength *= float(torch.rand(1, generator=generator))
            mixed = noise + strength * torch.randn(noise.shape, generator=generator)
        target = noise if self.prediction == "eps" else picture * noise - spread * latents
        return Noised(picture * latents + spread * mixed, timesteps, target)

    def losses(self, answer: Tensor, noised: Noised, mask: Tensor | None = None) -> Tensor:
        """(N,) the loss of each item, before its own weight.

        answer: the network's, any dtype and device. mask: (N, 1, h, w) weights, None for 1 everywhere.
        """
        device = answer.device
        elements = self._elementwise(answer.float(), noised.target.to(device), noised.timesteps.to(device))
        if mask is not None:
            elements = elements * mask.to(device)
        return self._weighted(elements.mean(dim=(1, 2, 3)), noised.timesteps.to(device))

    def _noise(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        options = self.options
        noise = torch.randn(latents.shape, generator=generator)
        if options.noise_offset:
            offset = torch.full((len(latents), 1, 1, 1), options.noise_offset)
            if options.noise_offset_random_strength:
                offset = offset * torch.rand(1, generator=generator)
            if options.adaptive_noise_scale:
                mean = latents.mean(dim=(2, 3), keepdim=True).abs()
                offset = (offset + options.adaptive_noise_scale * mean).clamp(min=0)
            noise = noise + offset * torch.randn((*latents.shape[:2], 1, 1), generator=generator)
        if options.multires_noise_iterations:
            noise = self._pyramid(noise, generator)
        return noise

    def _pyramid(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Noise of coarser grids on top, each `discount` as strong as the one before; the sum has a std of 1."""
        height, width = noise.shape[2:]
        for level in range(self.options.multires_noise_iterations):
            ratio = 2 + 2 * float(torch.rand(1, generator=generator))
            size = max(1, int(height / ratio**level)), max(1, int(width / ratio**level))
            coarse = torch.randn((*noise.shape[:2], *size), generator=generator)
            grown = F.interpolate(coarse, (height, width), mode="bilinear")
            noise = noise + grown * self.options.multires_noise_discount**level
            if 1 in size:
                break
        return noise / noise.std()

    def _shares(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, 1, 1) each: how much of the picture and of the noise is in x."""
        alphas = self.alphas_cumprod[timesteps].float().reshape(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()

    def _elementwise(self, answer: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        kind = self.options.loss_type
        if kind == "l2":
            return F.mse_loss(answer, target, reduction="none")
        if kind == "l1":
            return F.l1_loss(answer, target, reduction="none")
        c = self._huber_c(timesteps).reshape(-1, 1, 1, 1)
        root = ((answer - target).square() + c.square()).sqrt() - c
        return 2 * c * root if kind == "huber" else 2 * root

    def _huber_c(self, timesteps: Tensor) -> Tensor:
        options = self.options
        if options.huber_schedule == "constant":
            return torch.full(timesteps.shape, options.huber_c * options.huber_scale, device=timesteps.device)
        if options.huber_schedule == "exponential":
            return options.huber_c ** (timesteps / len(self.alphas_cumprod)) * options.huber_scale
        alphas = self.alphas_cumprod.to(timesteps.device)[timesteps]
        sigmas = ((1 - alphas) / alphas).sqrt()
        return ((1 - options.huber_c) / (1 + sigmas).square() + options.huber_c) * options.huber_scale

    def _weighted(self, losses: Tensor, timesteps: Tensor) -> Tensor:
        """Times what the noise level weighs. Source: Hang et al. 2023, arXiv:2303.09556, for min-SNR."""
        options, v = self.options, self.prediction == "v"
        alphas = self.alphas_cumprod.to(timesteps.device)[timesteps]
        snr = alphas / (1 - alphas)
        if options.min_snr_gamma:
            least = snr.clamp(max=options.min_snr_gamma)
            losses = losses * (least / (snr + 1) if v else least / snr)
        if options.scale_v_pred_loss_like_noise_pred:
            losses = losses * (snr / (snr + 1))
        if options.v_pred_like_loss:
            losses = losses + options.v_pred_like_loss * losses * (snr + 1) / snr
        if options.debiased_estimation_loss:
            losses = losses * (1 / (snr + 1) if v else 1 / snr.clamp(max=1000).sqrt())
        return losses
