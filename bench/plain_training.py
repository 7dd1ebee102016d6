"""A training as diffusers' example scripts make it (train_text_to_image_lora, train_dreambooth), written out plainly.

Alone in a process it tells the peak memory of its steps: python -m bench.plain_training FOLDER --kind lora ...
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from bench.measure import Stopwatch
from bench.memory import memory, peak_of_its_own, reset_peak_memory

RANK = 16
RATE = 1e-5
WINDOW = 77

Encode = Callable[[], tuple[Tensor, Tensor]]
"""Gives a step its latents (N, 4, h, w) and the text's vectors (N, 77, width)."""


class PlainLoop:
    """The whole U-Net learns ("dreambooth"), or low-rank matrices beside its layers ("lora")."""

    def __init__(self, unet: UNet2DConditionModel, kind: str, encode: Encode, *, mixed: bool = False) -> None:
        """mixed: the network computes in bf16."""
        self._unet, self._encode, self._mixed = unet.train(), encode, mixed
        self._weights = with_matrices(unet) if kind == "lora" else [*unet.requires_grad_(True).parameters()]
        self._optimizer = torch.optim.AdamW(self._weights, RATE)
        self._shares = torch.linspace(0.999, 0.005, 1000, device=unet.device)

    def step(self) -> float:
        """Returns: the loss."""
        latents, text = self._encode()
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (len(latents),), device=latents.device)
        share = self._shares[timesteps].view(-1, 1, 1, 1)
        with torch.autocast(latents.device.type, torch.bfloat16, enabled=self._mixed):
            answer = self._unet(share.sqrt() * latents + (1 - share).sqrt() * noise, timesteps, text).sample
        loss = F.mse_loss(answer.float(), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


def with_matrices(unet: UNet2DConditionModel) -> list[nn.Parameter]:
    """Low-rank matrices beside all linear layers and 1x1 convolutions of its transformers. Returns: them."""
    unet.requires_grad_(False)
    learned: list[nn.Parameter] = []
    for name, layer in [*unet.named_modules()]:
        if "attentions" not in name:
            continue
        if isinstance(layer, nn.Linear):
            down: nn.Module = nn.Linear(layer.in_features, RANK, bias=False)
            up: nn.Module = nn.Linear(RANK, layer.out_features, bias=False)
        elif isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            down = nn.Conv2d(layer.in_channels, RANK, 1, bias=False)
            up = nn.Conv2d(RANK, layer.out_channels, 1, bias=False)
        else:
            continue
        learned += _beside(layer, down.to(unet.device), up.to(unet.device))
    return learned


def _beside(layer: nn.Module, down: nn.Module, up: nn.Module) -> list[nn.Parameter]:
    def add(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        added: Tensor = out + up(down(given[0]))
        return added

    (first,) = up.parameters()
    nn.init.zeros_(first)
    layer.register_forward_hook(add)
    return [*down.parameters(), *up.parameters()]


class Parts:
    """A checkpoint in diffusers' layout, as `save_parts` has written it."""

    def __init__(self, folder: Path) -> None:
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        self.vae = AutoencoderKL.from_pretrained(folder / "vae").requires_grad_(False)
        self.text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").requires_grad_(False)

    def encode_always(self, batch: int, pixels: int) -> Encode:
        """As the scripts do it: pictures and captions anew in every step."""
        pictures = torch.rand(batch, 3, pixels, pixels) * 2 - 1
        ids = torch.randint(0, self.text_encoder.config.vocab_size, (batch, WINDOW))

        def encode() -> tuple[Tensor, Tensor]:
            latents = self.vae.encode(pictures).latent_dist.sample() * self.vae.config.scaling_factor
            return latents, self.text_encoder(ids)[0]

        return encode


def save_parts(model: Any, folder: Path) -> None:
    """model: a LoadedModel of SD 1.x, in fp32."""
    model.unet.save_pretrained(folder / "unet")
    model.vae.module.save_pretrained(folder / "vae")
    model.text_encoders[0].module.save_pretrained(folder / "text_encoder")


def encoded_before(batch: int, pixels: int, width: int, device: torch.device | None = None) -> Encode:
    """Everything is at hand. width: of the text's vectors."""
    latents = torch.randn(batch, 4, pixels // 8, pixels // 8, device=device)
    text = torch.randn(batch, WINDOW, width, device=device)
    return lambda: (latents, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--pixels", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    options = parser.parse_args()
    before = memory()
    parts = Parts(options.folder)
    if options.gradient_checkpointing:
        parts.unet.enable_gradient_checkpointing()
    loop = PlainLoop(parts.unet, options.kind, parts.encode_always(options.batch, options.pixels))
    reset_peak_memory()  # forget how it was loaded
    steps = []
    watch = Stopwatch()
    for _ in range(options.steps):
        loop.step()
        steps.append(astuple(watch.lap()))
    print(json.dumps({"peak": peak_of_its_own(), "before": before, "steps": steps}))


if __name__ == "__main__":
    main()
