"""Between pictures and latents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor


class Vae:
    """An autoencoder with the scale of its latents; one picture at a time, so that memory is that of one.

    module: diffusers' model. scale, shift: latent = (posterior - shift) * scale.
    When half precision overflows (NaN), it goes over to fp32 for good.
    """

    def __init__(self, module: AutoencoderKL, scale: float, shift: float = 0.0):
        self.module = module
        self.scale = scale
        self.shift = shift

    @property
    def dtype(self) -> torch.dtype:
        return self.module.dtype

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (B, C, h, w), scaled. Returns: (B, 3, 8h, 8w) fp32, about -1 to 1."""
        plain = latents.to(self.module.device, torch.float32) / self.scale + self.shift
        return torch.cat([self._in_numbers(self._decode, one) for one in plain.split(1)])

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A sample of each picture's posterior, scaled.

        images: (B, 3, H, W) in [-1, 1], H and W multiples of 8. generator: on the CPU; None is torch's global one.
        Returns: (B, C, H/8, W/8) fp32.
        """
        return torch.cat([self._encode_one(one, generator) for one in images.split(1)])

    def mode(self, images: Tensor) -> Tensor:
        """The middle of each picture's posterior, not scaled: what instruct-pix2pix models read.

        images: (B, 3, H, W) in [-1, 1]. Returns: (B, C, H/8, W/8) fp32.
        """
        return torch.cat([self._posterior(one)[0] for one in images.split(1)])

    def _posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent of one picture."""
        moments = self._in_numbers(self._moments, image.to(self.module.device, torch.float32))
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, (log_variance.clamp(-30, 20) / 2).exp()

    def _encode_one(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        mean, std = self._posterior(image)
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float32).to(mean.device)
        return (mean + std * noise - self.shift) * self.scale

    def _decode(self, latent: Tensor) -> Tensor:
        return self.module.decode(latent, return_dict=False)[0].float()

    def _moments(self, image: Tensor) -> Tensor:
        return self.module.encode(image, return_dict=False)[0].parameters.float()

    def _in_numbers(self, compute: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """compute(x) in the module's dtype, again in fp32 if that gave NaN or infinity."""
        result = compute(x.to(self.dtype))
        if self.dtype == torch.float32 or torch.isfinite(result).all():
            return result
        self.module.to(torch.float32)
        return compute(x)
