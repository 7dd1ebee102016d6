"""Between pictures and latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from webui.diffusion.denoiser import NotANumber
from webui.models.devices import is_out_of_memory
from webui.models.tiny_vae import TinyVae, no_tiny

TILES = (512, 256)
"""Edges in pixels of the pieces that a picture is cut into when the whole doesn't fit into memory."""
OVERLAP = 0.25
"""Share of a piece in which it fades into its neighbour."""


class Vae:
    """An autoencoder with the scale of its latents; one picture at a time, so that memory is that of one.

    module: diffusers' model. scale, shift: latent = (posterior - shift) * scale.
    retry: when half precision overflows (NaN), it goes over to this one for good; None leaves the NaN.
    tiny_encoder, tiny_decoder: small networks that take its place on one side. tiny: gives the small decoder of the
    model's family, for previews; raises NotFound when its file isn't there.
    A picture that doesn't fit into memory is computed in overlapping pieces.
    """

    def __init__(
        self,
        module: AutoencoderKL,
        scale: float,
        shift: float = 0.0,
        *,
        retry: torch.dtype | None = torch.float32,
        tiny_encoder: TinyVae | None = None,
        tiny_decoder: TinyVae | None = None,
        tiny: Callable[[], TinyVae] = no_tiny,
    ):
        self.module = module
        self.scale = scale
        self.shift = shift
        self.retry = retry
        self.tiny_encoder = tiny_encoder
        self.tiny_decoder = tiny_decoder
        self.tiny = tiny

    @property
    def dtype(self) -> torch.dtype:
        return self.module.dtype

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (B, C, h, w), scaled. Returns: (B, 3, 8h, 8w) fp32, about -1 to 1.

        Raises: NotANumber when a whole picture is NaN, in the precision to retry in, too.
        """
        if self.tiny_decoder is not None:
            return _valid(self.tiny_decoder.decode(latents))
        plain = latents.to(self.module.device, torch.float32) * (1 / self.scale) + self.shift
        return _valid(torch.cat([self._in_numbers(self._decode, one) for one in plain.split(1)]))

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A sample of each picture's posterior, scaled.

        images: (B, 3, H, W) in [-1, 1]. generator: on the CPU; None is torch's global one.
        Returns: (B, C, H // 8, W // 8) fp32.
        """
        if self.tiny_encoder is not None:
            height, width = images.shape[2] // 8 * 8, images.shape[3] // 8 * 8
            return self.tiny_encoder.encode(images[..., :height, :width])
        return torch.cat([self._encode_one(one, generator) for one in images.split(1)])

    def mode(self, images: Tensor) -> Tensor:
        """The middle of each picture's posterior, not scaled: what instruct-pix2pix models read.

        images: (B, 3, H, W) in [-1, 1]. Returns: (B, C, H // 8, W // 8) fp32.
        """
        return torch.cat([self._posterior(one)[0] for one in images.split(1)])

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each picture's posterior, not scaled.

        images: (B, 3, H, W) in [-1, 1]. Returns: two of (B, C, H // 8, W // 8) fp32.
        """
        pairs = [self._posterior(one) for one in images.split(1)]
        return torch.cat([mean for mean, _ in pairs]), torch.cat([std for _, std in pairs])

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
        """compute(x) in the module's dtype, again in the one to retry in if that gave NaN or infinity."""
        result = self._in_memory(compute, x.to(self.dtype))
        if self.retry in (None, self.dtype) or self.dtype == torch.float32 or torch.isfinite(result).all():
            return result
        self.module.to(self.retry)
        return self._in_memory(compute, x.to(self.retry))

    def _in_memory(self, compute: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """compute(x) as a whole, else in pieces. Raises: what it raised when the smallest pieces don't fit either."""
        try:
            return compute(x)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failure = error.with_traceback(None)  # its frames hold the memory
        for edge in TILES:
            with in_tiles(self.module, edge):
                try:
                    return compute(x)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    failure = error.with_traceback(None)
        raise failure


def _valid(pictures: Tensor) -> Tensor:
    """The pictures. Raises: NotANumber when one of them holds no number at all."""
    if torch.isnan(pictures).flatten(1).all(1).any():
        raise NotANumber(
            "The VAE produced no valid picture (only NaN): its file is damaged, or half precision overflowed. Choose "
            "another VAE in setting sd_vae, or start with --no-half-vae."
        )
    return pictures


@contextmanager
def in_tiles(module: AutoencoderKL, edge: int) -> Iterator[None]:
    """diffusers' tiling with pieces of `edge` pixels; off again afterwards."""
    if module.device.type == "cuda":
        torch.cuda.empty_cache()
    names = ("tile_sample_min_size", "tile_latent_min_size", "tile_overlap_factor", "use_tiling")
    before = {name: getattr(module, name) for name in names}
    module.tile_sample_min_size, module.tile_latent_min_size = edge, edge // 8
    module.tile_overlap_factor = OVERLAP
    module.enable_tiling()
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
