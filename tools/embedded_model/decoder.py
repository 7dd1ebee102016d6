"""Stage `decoder`: sharpen the VAE's decoder on whole pictures. The encoder, and so the latents, stay as they are.

Independent of the stage `unet`: either may run first, or both at once.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from . import data
from .canvas import Canvas, Plan, plan_batch
from .config import Preset
from .encode import load_latents, load_whitening, raw_latent
from .loop import Clock, Training, compiled, feed, to_device
from .networks import pick_device
from .vae import LATENT_NOISE, gradient_loss, load_vae


def decoding_loss(vae: AutoencoderKL, latent: Tensor, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """latent: (B, 4, s, s) raw. x: (B, 3, S, S) in [-1, 1]. Returns: the loss, and [L1, MSE, edges] to log."""
    with torch.autocast(x.device.type, torch.bfloat16):
        y = vae.decoder(vae.post_quant_conv(latent)).float()
    l1, mse, edges = (y - x).abs().mean(), F.mse_loss(y, x), gradient_loss(y, x)
    return l1 + mse + edges, [l1, mse, edges]


def run(preset: Preset, clock: Clock | None = None) -> None:
    device, clock = pick_device(), clock or Clock()
    art, latents, whitening = data.load_art(preset), load_latents(preset), load_whitening(preset)
    canvas, white_all = Canvas(art, device), latents.latents.to(device)
    vae = load_vae(preset, device).requires_grad_(False).train()
    trained = [vae.decoder, vae.post_quant_conv]
    for module in trained:
        module.requires_grad_(True)
    training = Training(preset, "decoder", preset.decoder, trained, clock, ("l1", "mse", "edges"))
    compiled(vae.decoder, preset.compile)

    def batch(number: int) -> tuple[np.ndarray, Plan]:
        rng = random.Random(f"{preset.seed} decoder {number}")
        picks = [rng.randrange(len(latents.scenes)) for _ in range(preset.decoder.batch)]
        return np.array(picks), plan_batch(art, [latents.scenes[pick] for pick in picks])

    batches = feed(batch, training.step, device)
    random_numbers = torch.Generator(device)
    for step in training.steps():
        picks, plan = next(batches)
        x, white = canvas.paint(plan), white_all[to_device(picks, device)].float()
        random_numbers.manual_seed(preset.seed + step)
        white += LATENT_NOISE * torch.randn(white.shape, generator=random_numbers, device=device)
        latent = raw_latent(white, whitening)
        xs, ls = x.chunk(training.parts), latent.chunk(training.parts)
        training.learn(lambda part: decoding_loss(vae, ls[part], xs[part]), len(x))  # noqa: B023
