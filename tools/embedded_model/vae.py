"""Stage `vae`: train the autoencoder on composites."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from . import data
from .config import Preset
from .loop import Average, Checkpoint, Curve, backward_in_parts, cpu_parts, learning_rate, optimizer_for, set_rate
from .networks import build_vae, pick_device, start_as_skip

LATENT_NOISE = 0.1  # of the latent's own spread: the UNet's predictions will be off by about this much
KL_WEIGHT = 1e-6


def to_tensor(pictures: np.ndarray, device: torch.device) -> Tensor:
    """pictures: (B, S, S, 3) uint8. Returns: (B, 3, S, S) in [-1, 1], channels last."""
    x = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2)
    return (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def to_pictures(x: Tensor) -> np.ndarray:
    """Inverse of `to_tensor`, clipped."""
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def training_batch(
    preset: Preset, art: dict[str, data.Art], subjects: list[tuple[str, str, str]], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns: (count, S, S, 3) uint8: subjects as the UNet will see them, and a share of any emoji."""
    pictures = []
    for _ in range(count):
        if rng.random() < preset.general_share:
            pictures.append(data.general_picture(preset, art, rng))
        else:
            _, hexcode, style = subjects[rng.integers(len(subjects))]
            pictures.append(data.paint(art, data.draw_scene(preset, rng, style, hexcode)))
    return np.stack(pictures)


def crop(pictures: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of each picture. pictures: (B, S, S, 3). Returns: (B, side, side, 3)."""
    corners = rng.integers(0, pictures.shape[1] - side + 1, (len(pictures), 2))
    return np.stack([p[y : y + side, x : x + side] for p, (y, x) in zip(pictures, corners, strict=True)])


def gradient_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical neighbour differences: keeps edges."""
    error = a - b
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """a, b: uint8 pictures. Returns: dB, over all pixels together."""
    error = np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pictures: np.ndarray, device: torch.device) -> np.ndarray:
    """pictures: (B, S, S, 3) uint8. Returns: the same shape, through the latent mean."""
    rows = []
    for start in range(0, len(pictures), 16):
        latent = vae.encode(to_tensor(pictures[start : start + 16], device)).latent_dist.mean
        rows.append(to_pictures(vae.decode(latent).sample))
    return np.concatenate(rows)


def vae_loss(vae: AutoencoderKL, x: Tensor, seed: int) -> tuple[Tensor, list[Tensor]]:
    """x: (B, 3, S, S) in [-1, 1]. Returns: the loss, and [L1, MSE, edges, KL] to log."""
    with torch.autocast(x.device.type, torch.bfloat16):
        posterior = vae.encode(x).latent_dist
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed)).to(x.device)
    spread = logvar.mul(0.5).exp() + LATENT_NOISE * mean.detach().std()
    with torch.autocast(x.device.type, torch.bfloat16):
        y = vae.decode(mean + spread * noise).sample.float()
    l1, mse, edges = (y - x).abs().mean(), F.mse_loss(y, x), gradient_loss(y, x)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
    return l1 + mse + edges + KL_WEIGHT * kl, [l1, mse, edges, kl]


def run(preset: Preset) -> None:
    device = pick_device()
    parts = cpu_parts(device)
    torch.manual_seed(preset.seed)
    art = data.load_art(preset)
    subjects = data.subject_list(preset, art)
    vae = build_vae(preset.sizes)
    start_as_skip(vae)
    vae.to(device, memory_format=torch.channels_last)
    optimizer = optimizer_for([vae], preset.vae)
    average = Average([vae], preset.ema)
    checkpoint = Checkpoint(preset.run / "vae.pt", preset.checkpoint_minutes)
    curve = Curve(preset.run / "vae.csv", ("step", "rate", "l1", "mse", "edges", "kl", "pictures_per_s"))
    step = 0
    if state := checkpoint.load():
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        average.weights = [w.to(device) for w in state["average"]]
        step = state["step"]

    def save() -> None:
        checkpoint.save(
            {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "average": average.weights, "step": step}
        )
        samples = training_batch(preset, art, subjects, 16, np.random.default_rng(1))
        sheet = np.concatenate([samples, reconstruct(vae, samples, device)], 1)
        Image.fromarray(np.concatenate(list(sheet), 1)).save(preset.run / "vae.png")

    checkpoint.watch_for_end()
    seen, since = 0, time.time()
    while step < preset.vae.steps and not checkpoint.ending:
        rate = learning_rate(preset.vae, step)
        set_rate(optimizer, rate)
        rng = np.random.default_rng((preset.seed, step))
        whole = step >= preset.vae_crop_steps
        count = preset.vae.batch // 2 if whole else preset.vae.batch
        pictures = training_batch(preset, art, subjects, count, rng)
        x = to_tensor(pictures if whole else crop(pictures, preset.vae_crop, rng), device)
        shares = x.chunk(parts)
        optimizer.zero_grad(set_to_none=True)
        figures = backward_in_parts(parts, lambda part: vae_loss(vae, shares[part], step * parts + part))  # noqa: B023
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update(step)
        step, seen = step + 1, seen + len(x)
        if step % 20 == 0:
            curve.add(step, rate, *figures, seen / (time.time() - since))
            seen, since = 0, time.time()
        if checkpoint.due():
            save()
    save()


def load_vae(preset: Preset, device: torch.device) -> AutoencoderKL:
    """The trained autoencoder with averaged weights, its decoder the sharpened one where there is one."""
    vae = build_vae(preset.sizes)
    state = Checkpoint(preset.run / "vae.pt", 0).load()
    if state is None:
        raise FileNotFoundError(f"no {preset.run / 'vae.pt'}; run the stage vae first")
    for parameter, weight in zip(vae.parameters(), state["average"], strict=True):
        parameter.data.copy_(weight)
    if later := Checkpoint(preset.run / "decoder.pt", 0).load():
        parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
        for parameter, weight in zip(parameters, later["average"], strict=True):
            parameter.data.copy_(weight)
    return vae.to(device, memory_format=torch.channels_last).eval()
