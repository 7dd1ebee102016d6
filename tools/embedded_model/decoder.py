"""Stage `decoder`: sharpen the VAE's decoder on whole pictures. The encoder, and so the latents, stay as they are.

Independent of the stage `unet`: either may run first, or both at once.
"""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from . import data
from .config import Preset
from .encode import load_latents
from .loop import Average, Checkpoint, Curve, backward_in_parts, cpu_parts, learning_rate, optimizer_for, set_rate
from .networks import pick_device
from .vae import LATENT_NOISE, gradient_loss, load_vae, to_tensor


def decoding_loss(vae: AutoencoderKL, latent: Tensor, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """latent: (B, 4, s, s) raw. x: (B, 3, S, S) in [-1, 1]. Returns: the loss, and [L1, MSE, edges] to log."""
    with torch.autocast(x.device.type, torch.bfloat16):
        y = vae.decode(latent).sample.float()
    l1, mse, edges = (y - x).abs().mean(), F.mse_loss(y, x), gradient_loss(y, x)
    return l1 + mse + edges, [l1, mse, edges]


def run(preset: Preset) -> None:
    device = pick_device()
    parts = cpu_parts(device)
    art, latents = data.load_art(preset), load_latents(preset)
    vae = load_vae(preset, device).requires_grad_(False).train()
    trained: list[nn.Module] = [vae.decoder, vae.post_quant_conv]
    for module in trained:
        module.requires_grad_(True)
    optimizer = optimizer_for(trained, preset.decoder)
    average = Average(trained, preset.ema)
    checkpoint = Checkpoint(preset.run / "decoder.pt", preset.checkpoint_minutes)
    curve = Curve(preset.run / "decoder.csv", ("step", "rate", "l1", "mse", "edges", "pictures_per_s"))
    step = 0
    if state := checkpoint.load():
        for module, saved in zip(trained, state["networks"], strict=True):
            module.load_state_dict(saved)
        optimizer.load_state_dict(state["optimizer"])
        average.weights = [w.to(device) for w in state["average"]]
        step = state["step"]

    def save() -> None:
        networks = [module.state_dict() for module in trained]
        checkpoint.save(
            {"networks": networks, "optimizer": optimizer.state_dict(), "average": average.weights, "step": step}
        )

    checkpoint.watch_for_end()
    seen, since = 0, time.time()
    while step < preset.decoder.steps and not checkpoint.ending:
        rate = learning_rate(preset.decoder, step)
        set_rate(optimizer, rate)
        rng = np.random.default_rng((preset.seed + 1, step))
        picks = rng.choice(len(latents.scenes), preset.decoder.batch, p=latents.weights)
        x = to_tensor(np.stack([data.paint(art, latents.scenes[i]) for i in picks]), device)
        white = latents.latents[torch.from_numpy(picks)].float()
        white += LATENT_NOISE * torch.randn(white.shape, generator=torch.Generator().manual_seed(preset.seed + step))
        latent = (white * latents.spread[:, None, None] + latents.shift[:, None, None]).to(device)
        xs, ls = x.chunk(parts), latent.chunk(parts)
        optimizer.zero_grad(set_to_none=True)
        figures = backward_in_parts(parts, lambda part: decoding_loss(vae, ls[part], xs[part]))  # noqa: B023
        torch.nn.utils.clip_grad_norm_([p for module in trained for p in module.parameters()], 1.0)
        optimizer.step()
        average.update(step)
        step, seen = step + 1, seen + len(x)
        if step % 20 == 0:
            curve.add(step, rate, *figures, seen / (time.time() - since))
            seen, since = 0, time.time()
        if checkpoint.due():
            save()
    save()
