"""Stage `encode`: turn composites into latents once, so that the UNet's loop needs no VAE."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import data
from .config import Preset
from .networks import pick_device
from .vae import load_vae, to_tensor


@dataclass(frozen=True)
class LatentSet:
    """latents: (N, 4, s, s) float16, whitened: mean 0 and std 1 in each channel. scenes: what each shows.

    shift, spread: (4,) of the raw latents; raw = latent * spread + shift.
    weights: (N,) how often each is drawn, so that every noun counts the same.
    """

    latents: Tensor
    scenes: list[data.Scene]
    shift: Tensor
    spread: Tensor
    weights: np.ndarray


def path(preset: Preset) -> Path:
    return preset.run / "latents.pt"


@torch.no_grad()
def run(preset: Preset) -> None:
    device = pick_device()
    art = data.load_art(preset)
    vae = load_vae(preset, device)
    rng = np.random.default_rng(preset.seed)
    scenes, nouns, rows = [], [], []
    for noun, hexcode, style in data.subject_list(preset, art):
        wanted = {data.draw_scene(preset, rng, style, hexcode) for _ in range(preset.variants)}
        scenes += sorted(wanted, key=str)
        nouns += [noun] * len(wanted)
    for start in range(0, len(scenes), 32):
        pictures = np.stack([data.paint(art, scene) for scene in scenes[start : start + 32]])
        with torch.autocast(device.type, torch.bfloat16):
            rows.append(vae.encode(to_tensor(pictures, device)).latent_dist.mean.float().cpu())
        if start % 1024 == 0:
            print(f"{start} of {len(scenes)}", flush=True)
    raw = torch.cat(rows)
    shift, spread = raw.mean(dim=(0, 2, 3)), raw.std(dim=(0, 2, 3))
    white = (raw - shift[:, None, None]) / spread[:, None, None]
    names, counts = np.unique(nouns, return_counts=True)
    share = dict(zip(names.tolist(), (1 / counts).tolist(), strict=True))
    torch.save(
        {
            "latents": white.half(),
            "shift": shift,
            "spread": spread,
            "scenes": json.dumps([asdict(scene) for scene in scenes]),
            "weights": torch.tensor([share[noun] for noun in nouns]),
        },
        path(preset),
    )
    print(f"{len(scenes)} latents, shift {shift.tolist()}, spread {spread.tolist()}")


def load_latents(preset: Preset) -> LatentSet:
    state = torch.load(path(preset), weights_only=True)
    scenes = [data.Scene(**scene) for scene in json.loads(state["scenes"])]
    weights = state["weights"].double().numpy()
    return LatentSet(state["latents"], scenes, state["shift"], state["spread"], weights / weights.sum())
