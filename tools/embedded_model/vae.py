"""Stage `vae`: train the autoencoder on crops of composites."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from . import data
from .canvas import Canvas, Plan, plan_batch
from .config import Preset
from .loop import Clock, Training, compiled, feed, fill, load_state
from .networks import build_vae, pick_device, start_as_skip
from .scenes import Scene, Subjects, draw_scene, general_scene

LATENT_NOISE = 0.1  # of the latent's own spread: the UNet's predictions will be off by about this much
KL_WEIGHT = 1e-6
MSE_WEIGHT = 3.0  # beside L1 and edges at 1: what is far off counts


def to_tensor(pictures: np.ndarray, device: torch.device) -> Tensor:
    """pictures: (B, S, S, 3) uint8. Returns: (B, 3, S, S) in [-1, 1], channels last."""
    x = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2)
    return (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def to_pictures(x: Tensor) -> np.ndarray:
    """Inverse of `to_tensor`, clipped."""
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def training_scenes(subjects: Subjects, batch: int, count: int, stream: str = "vae") -> list[Scene]:
    """Batch number `batch`: scenes as the UNet will see them, and a share of any emoji."""
    rng = random.Random(f"{subjects.preset.seed} {stream} {batch}")
    return [
        general_scene(subjects, stream, number)
        if rng.random() < subjects.preset.shares.general
        else draw_scene(subjects, stream, number)
        for number in range(batch * count, (batch + 1) * count)
    ]


def crop(pictures: Tensor, side: int, corners: list[tuple[float, float]]) -> Tensor:
    """A square of each of (B, 3, S, S). corners: where it begins, 0 to 1. Returns: (B, 3, side, side)."""
    room = pictures.shape[-1] - side + 1
    places = [(int(y * room), int(x * room)) for y, x in corners]
    squares = [p[:, y : y + side, x : x + side] for p, (y, x) in zip(pictures, places, strict=True)]
    return torch.stack(squares).contiguous(memory_format=torch.channels_last)


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


def vae_loss(vae: AutoencoderKL, x: Tensor, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
    """x: (B, 3, S, S) in [-1, 1]. noise: (B, 4, S/8, S/8). Returns: the loss, and [L1, MSE, edges, KL] to log."""
    with torch.autocast(x.device.type, torch.bfloat16):
        moments = vae.quant_conv(vae.encoder(x))
    mean, logvar = moments.float().chunk(2, dim=1)
    logvar = logvar.clamp(-30, 20)
    spread = logvar.mul(0.5).exp() + LATENT_NOISE * mean.detach().std()
    with torch.autocast(x.device.type, torch.bfloat16):
        y = vae.decoder(vae.post_quant_conv(mean + spread * noise)).float()
    l1, mse, edges = (y - x).abs().mean(), F.mse_loss(y, x), gradient_loss(y, x)
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
    return l1 + MSE_WEIGHT * mse + edges + KL_WEIGHT * kl, [l1, mse, edges, kl]


def share_loss(
    loss: Callable[[AutoencoderKL, Tensor, Tensor], tuple[Tensor, list[Tensor]]],
    vae: AutoencoderKL, xs: Sequence[Tensor], noises: Sequence[Tensor], part: int,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """The loss of one share of a batch. xs, noises: of all shares."""
    return loss(vae, xs[part], noises[part])


def run(preset: Preset, clock: Clock | None = None) -> None:
    device, clock = pick_device(), clock or Clock()
    torch.manual_seed(preset.seed)
    art = data.load_art(preset)
    subjects, canvas = art.subjects(preset), Canvas(art, device)
    vae = build_vae(preset.sizes)
    start_as_skip(vae)
    vae.to(device, memory_format=torch.channels_last)
    training = Training(preset, "vae", preset.vae, [vae], clock, ("l1", "mse", "edges", "kl"))
    for half in (vae.encoder, vae.decoder):
        compiled(half, preset.compile)

    def batch(number: int) -> tuple[Plan, list[tuple[float, float]]]:
        rng = random.Random(f"{preset.seed} crops {number}")
        corners = [(rng.random(), rng.random()) for _ in range(preset.vae.batch)]
        return plan_batch(art, training_scenes(subjects, number, preset.vae.batch)), corners

    batches = feed(batch, training.step, device)
    random_numbers = torch.Generator(device)
    for step in training.steps():
        plan, corners = next(batches)
        x = crop(canvas.paint(plan), preset.vae_crop, corners)
        side = preset.vae_crop // 8
        random_numbers.manual_seed(preset.seed + step)
        noise = torch.randn((len(x), 4, side, side), generator=random_numbers, device=device)
        xs, noises = x.chunk(training.parts), noise.chunk(training.parts)
        training.learn(partial(share_loss, vae_loss, vae, xs, noises), len(x))
    preview(preset, canvas, subjects)


def preview(preset: Preset, canvas: Canvas, subjects: Subjects) -> None:
    """Write runs/<preset>/vae.png: pictures above what the averaged VAE makes of them."""
    samples = canvas.pictures(training_scenes(subjects, 0, 16))
    sheet = np.concatenate([samples, reconstruct(load_vae(preset, canvas.device), samples, canvas.device)], 1)
    rows = np.concatenate(list(sheet[:8]), 1), np.concatenate(list(sheet[8:]), 1)
    Image.fromarray(np.concatenate(rows, 0)).save(preset.run / "vae.png")


def load_vae(preset: Preset, device: torch.device) -> AutoencoderKL:
    """The trained autoencoder with averaged weights, its decoder the sharpened one where there is one."""
    vae = build_vae(preset.sizes)
    state = load_state(preset.run / "vae.pt")
    if state is None:
        raise FileNotFoundError(f"no {preset.run / 'vae.pt'}; run the stage vae first")
    fill([vae], state)
    if later := load_state(preset.run / "decoder.pt"):
        fill([vae.decoder, vae.post_quant_conv], later)
    return vae.to(device, memory_format=torch.channels_last).eval()
