"""Fit the colours of quick previews to a checkpoint: a linear map from its latents to small pictures.

    python -m tools.fit_preview models/Stable-diffusion/easel-emoji.safetensors

Pictures are made with the checkpoint, encoded again, and the mean colour of each 8 x 8 block is explained by the
latent's channels and a constant, by least squares. The result goes into extensions/live-preview/colours.json under
the file's name, and how much of the colours' variance it explains is printed.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from webui.core.flags import parse_flags
from webui.core.request import GenerationRequest
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.generate import run
from webui.pipeline.postprocess import to_tensor
from webui.services.building import build_services

COLOURS = Path(__file__).resolve().parents[1] / "extensions" / "live-preview" / "colours.json"
NOUNS = ("cat", "apple", "car", "tree", "house", "fish", "ball", "flower", "bird", "star", "dog", "heart")
COLOUR_NAMES = ("red", "blue", "green", "yellow", "white", "black", "purple", "orange")


def fitted(latents: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor, float]:
    """Weights (C, 3), bias (3,) and the share of variance explained.

    latents: (B, C, h, w). pictures: (B, 3, 8h, 8w) in [-1, 1].
    """
    small = torch.nn.functional.avg_pool2d(pictures.double(), pictures.shape[-1] // latents.shape[-1])
    colours = small.movedim(1, -1).reshape(-1, 3)
    rows = latents.double().movedim(1, -1).reshape(len(colours), -1)
    known = torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(known, colours).solution
    left = (colours - known @ solution).square().sum() / (colours - colours.mean(0)).square().sum()
    return solution[:-1].float(), solution[-1].float(), 1 - float(left)


def material(engine: Engine, count: int) -> tuple[Tensor, Tensor]:
    """Latents and pictures of `count` prompts with the current checkpoint."""
    checkpoint = engine.checkpoints.default(engine.settings.snapshot()["sd_model_checkpoint"] or "")
    with engine.models.lease(checkpoint) as model:
        size = model.capabilities.native_size
    latents, pictures = [], []
    for seed in range(count):
        prompt = f"a {COLOUR_NAMES[seed % len(COLOUR_NAMES)]} {NOUNS[seed % len(NOUNS)]}"
        request = GenerationRequest(prompt=prompt, seed=seed, width=size, height=size, steps=12, save_samples=False)
        result = run(engine, engine.plan(request), JobContext.alone())
        pictures.append(to_tensor(Image.open(io.BytesIO(result.images[0].data)).convert("RGB")))
        with engine.models.lease(checkpoint) as model, torch.inference_mode():
            latents.append(model.encode(pictures[-1][None], torch.Generator().manual_seed(seed))[0])
    return torch.stack(latents), torch.stack(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--count", type=int, default=48, help="pictures to make")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        flags, _ = parse_flags(["--data-dir", data, "--ckpt", str(arguments.checkpoint.resolve()), "--no-half"], {})
        services = build_services(flags)
        latents, pictures = material(build(services), arguments.count)
        services.checkpoints.close()
    weights, bias, explained = fitted(latents, pictures)
    table = json.loads(COLOURS.read_text("utf-8"))
    table[arguments.checkpoint.stem] = {
        "weights": np.round(weights.numpy().astype(float), 4).tolist(),
        "bias": np.round(bias.numpy().astype(float), 4).tolist(),
    }
    entries = (f"  {json.dumps(name)}: {json.dumps(colours)}" for name, colours in table.items())
    COLOURS.write_text("{\n" + ",\n".join(entries) + "\n}\n", "utf-8")
    print(f"{arguments.checkpoint.stem}: {explained:.1%} of the colours' variance is explained")


if __name__ == "__main__":
    main()
