"""Stage `decoder`: sharpen the VAE's decoder on whole pictures. The encoder, and so the latents, stay as they are.

Independent of the stages `encode` and `unet`: they may run before it, after it, or at once.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from . import data
from .canvas import Canvas, Plan, plan_batch
from .config import Preset
from .loop import Clock, Training, compiled, feed
from .networks import pick_device
from .vae import LATENT_NOISE, MSE_WEIGHT, gradient_loss, load_vae, share_loss, training_scenes


def decoding_loss(vae: AutoencoderKL, x: Tensor, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
    """x: (B, 3, S, S) in [-1, 1]. noise: (B, 4, S/8, S/8). Returns: the loss, and [L1, MSE, edges] to log."""
    with torch.autocast(x.device.type, torch.bfloat16):
        with torch.no_grad():
            mean = vae.quant_conv(vae.encoder(x)).float().chunk(2, dim=1)[0]
        y = vae.decoder(vae.post_quant_conv(mean + LATENT_NOISE * mean.std() * noise)).float()
    l1, mse, edges = (y - x).abs().mean(), F.mse_loss(y, x), gradient_loss(y, x)
    return l1 + MSE_WEIGHT * mse + edges, [l1, mse, edges]


def run(preset: Preset, clock: Clock | None = None) -> None:
    device, clock = pick_device(), clock or Clock()
    art = data.load_art(preset)
    subjects, canvas = art.subjects(preset), Canvas(art, device)
    vae = load_vae(preset, device).requires_grad_(False).train()
    trained = [vae.decoder, vae.post_quant_conv]
    for module in trained:
        module.requires_grad_(True)
    training = Training(preset, "decoder", preset.decoder, trained, clock, ("l1", "mse", "edges"))
    for half in (vae.encoder, vae.decoder):
        compiled(half, preset.compile)
    count = preset.decoder.batch

    def batch(number: int) -> Plan:
        return plan_batch(art, training_scenes(subjects, number, count, "decoder"))

    batches = feed(batch, training.step, device)
    random_numbers = torch.Generator(device)
    for step in training.steps():
        x = canvas.paint(next(batches))
        random_numbers.manual_seed(preset.seed + step)
        side = preset.native_size // 8
        noise = torch.randn((count, 4, side, side), generator=random_numbers, device=device)
        xs, noises = x.chunk(training.parts), noise.chunk(training.parts)
        training.learn(partial(share_loss, decoding_loss, vae, xs, noises), count)
