"""TAESD: small networks between pictures and scaled latents, a hundred times quicker than the VAE and rougher.

Source: https://github.com/madebyollin/taesd; its files hold a plain sequence of layers, diffusers' ones name them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor, nn

from webui.catalog.shapes import size_of
from webui.core.errors import BadModelFile, NotFound
from webui.models.components import Component, Source
from webui.models.weights import WeightsFile, open_weights

FOLDER = "VAE-taesd"
SUFFIXES = (".safetensors", ".pth", ".pt")
NAMES: tuple[tuple[str, str], ...] = (("sdxl", "taesdxl"), ("sd3", "taesd3"), ("flux", "taef1"), ("sd", "taesd"))
"""How a family's id begins -> how its files are called; the first that fits."""

Side = Literal["encoder", "decoder"]


class TinyVae:
    """One side of TAESD. module: diffusers' EncoderTiny or DecoderTiny."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, device: torch.device):
        self.module = module
        self.dtype = dtype
        self.device = device

    def decode(self, latents: Tensor) -> Tensor:
        """latents: (B, C, h, w), scaled. Returns: (B, 3, 8h, 8w) fp32 in [-1, 1]."""
        return torch.cat([self.module(one).float().clamp(-1, 1) for one in self._here(latents).split(1)])

    def encode(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [-1, 1]. Returns: (B, C, H/8, W/8) fp32, scaled; nothing is drawn at random."""
        return torch.cat([self.module(one).float() for one in self._here(images).split(1)])

    def _here(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype)


def no_tiny() -> TinyVae:
    """For a model of which nobody has said where its TAESD lies. Raises: NotFound."""
    raise NotFound("TAESD isn't there.")


def find_tiny(models: Path, family: str, side: Side) -> Path:
    """The file for a family, in models/VAE-taesd. Raises: NotFound saying what to put there."""
    stem = next((name for start, name in NAMES if family.startswith(start)), "taesd")
    folder = models / FOLDER
    for name in (f"{stem}_{side}", stem):
        for suffix in SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                return path
    raise NotFound(
        f"TAESD's {side} isn't there: put {stem}_{side}.safetensors or .pth into {folder}, or choose Full instead."
    )


def open_tiny(path: Path, side: Side, dtype: torch.dtype, device: torch.device) -> TinyVae:
    """Raises: BadModelFile with one sentence."""
    file = open_weights(path)
    prefix, offset = _layout(file, side)
    first = f"{prefix}{offset}.weight"
    width = size_of(file.shapes, first, 0, path.name)
    numbers = {_number(key, prefix) for key in file.shapes if key.startswith(prefix)} - {-1}
    last = f"{prefix}{max(numbers, default=0)}.weight"
    channels = (
        size_of(file.shapes, first, 1, path.name) if side == "decoder" else size_of(file.shapes, last, 0, path.name)
    )
    if not (0 < width <= 1024 and 0 < channels <= 64):
        raise BadModelFile(f"{path.name} is no TAESD {side}: it is {width} channels wide, with {channels} of latents.")
    widths = (width,) * 4
    with torch.device("meta"):
        whole = AutoencoderTiny(
            encoder_block_out_channels=widths, decoder_block_out_channels=widths, latent_channels=channels
        )
    module: nn.Module = getattr(whole, side)
    sources = {key: Source(_stored(key, prefix, offset)) for key in module.state_dict()}
    component = Component(f"TAESD {side}", module, sources)
    component.check(file)
    component.fill(file, dtype, device)
    return TinyVae(module, dtype, device)


def _layout(file: WeightsFile, side: Side) -> tuple[str, int]:
    """What stands before the numbers of the layers, and the number of the first with weights.

    The original decoder counts a layer without weights at its beginning that diffusers' doesn't.
    """
    for prefix in (f"{side}.layers.", f"{side}.", ""):
        for offset in (0, 1):
            if f"{prefix}{offset}.weight" in file.shapes:
                return prefix, offset
    raise BadModelFile(f"{file.path.name} is no TAESD {side}: it holds no plain sequence of layers.")


def _stored(key: str, prefix: str, offset: int) -> str:
    """diffusers' "layers.3.conv.0.weight" -> the file's "4.conv.0.weight"."""
    _, number, rest = key.split(".", 2)
    return f"{prefix}{int(number) + offset}.{rest}"


def _number(key: str, prefix: str) -> int:
    number = key.removeprefix(prefix).split(".")[0]
    return int(number) if number.isdecimal() and len(number) < 4 else -1
