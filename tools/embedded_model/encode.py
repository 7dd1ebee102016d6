"""Stage `encode`: turn composites into latents once, so that the UNet's loop needs no VAE."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import data
from .canvas import Canvas, Plan, plan_batch
from .config import Preset
from .loop import Clock, feed, load_state, save_state
from .networks import pick_device
from .scenes import Scene, draw_scene
from .vae import load_vae

CHUNK = 128  # composites at a time


@dataclass(frozen=True)
class LatentSet:
    """latents: (N, 4, s, s) float16, whitened: mean 0 and std 1 in each channel. scenes: what each shows."""

    latents: Tensor
    scenes: list[Scene]


@dataclass(frozen=True)
class Whitening:
    """(4,) of the raw latents' channels; raw = latent * spread + shift."""

    shift: Tensor
    spread: Tensor


def path(preset: Preset) -> Path:
    return preset.run / "latents.pt"


def whitening_path(preset: Preset) -> Path:
    """Apart from the latents, which are too many to travel. Fixed at the first encoding, since the UNet learns it."""
    return preset.run / "whitening.pt"


@torch.no_grad()
def run(preset: Preset, clock: Clock | None = None) -> None:
    """The composites differ with every run that finds a UNet half trained, so that each run brings new ones."""
    device, clock = pick_device(), clock or Clock()
    art = data.load_art(preset)
    subjects, canvas, vae = art.subjects(preset), Canvas(art, device), load_vae(preset, device)
    stream = f"encode {(load_state(preset.run / 'unet.pt') or {}).get('step', 0)}"

    def batch(number: int) -> tuple[Plan, list[Scene]]:
        scenes = [draw_scene(subjects, stream, n) for n in range(number * CHUNK, (number + 1) * CHUNK)]
        return plan_batch(art, scenes), scenes

    batches, scenes, rows = feed(batch, 0, device), [], []
    while len(scenes) < preset.composites:
        plan, shown = next(batches)
        x = canvas.paint(plan)
        with torch.autocast(device.type, torch.bfloat16):
            rows.append(vae.encode(x).latent_dist.mean.float())
        scenes += shown
        if len(rows) % 64 == 1:
            print(f"{len(scenes)} of {preset.composites}", flush=True)
    raw = torch.cat(rows)
    if not whitening_path(preset).exists():
        found = {"shift": raw.mean(dim=(0, 2, 3)).cpu(), "spread": raw.std(dim=(0, 2, 3)).cpu()}
        save_state(whitening_path(preset), found)
    white = whiten(raw, load_whitening(preset)).half().cpu()
    save_state(path(preset), {"latents": white, "scenes": json.dumps([vars(scene) for scene in scenes])})
    clock.saved()


def whiten(raw: Tensor, whitening: Whitening) -> Tensor:
    shift, spread = whitening.shift.to(raw.device), whitening.spread.to(raw.device)
    return (raw - shift[:, None, None]) / spread[:, None, None]


def raw_latent(white: Tensor, whitening: Whitening) -> Tensor:
    """Inverse of `whiten`."""
    shift, spread = whitening.shift.to(white.device), whitening.spread.to(white.device)
    return white * spread[:, None, None] + shift[:, None, None]


def load_whitening(preset: Preset) -> Whitening:
    """Runs before there was a file of its own have it among the latents."""
    state = load_state(whitening_path(preset)) or load_state(path(preset))
    if state is None:
        raise FileNotFoundError(f"no {whitening_path(preset)}; run the stage encode first")
    return Whitening(state["shift"], state["spread"])


def load_latents(preset: Preset) -> LatentSet:
    state = load_state(path(preset))
    if state is None:
        raise FileNotFoundError(f"no {path(preset)}; run the stage encode first")
    return LatentSet(state["latents"], [Scene(**scene) for scene in json.loads(state["scenes"])])
