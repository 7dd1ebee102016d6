"""Pictures as latents, each encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from webui.core.files import write_atomic
from webui.core.training_data import Item
from webui.models.vae import Vae


@dataclass
class LatentShelf:
    """The latents of a dataset's items by their keys, in memory and, with a folder, on the disk.

    sampling: "once" keeps one sample of a picture's posterior, always the same one; "deterministic" its mean;
    "random" keeps mean and spread and draws each time. vae_identity: of the file whose VAE it is.
    """

    vae: Vae
    vae_identity: object
    sampling: str = "once"
    keep: bool = True
    folder: Path | None = None
    _kept: dict[str, Tensor] = field(default_factory=dict)

    def latents(self, items: Sequence[Item], generator: torch.Generator) -> Tensor:
        """(N, C, h, w) fp32 on the CPU, scaled. generator: for what is drawn anew each time."""
        return torch.stack([self._drawn(self._moments(item), item, generator) for item in items])

    def _drawn(self, moments: Tensor, item: Item, generator: torch.Generator) -> Tensor:
        mean, spread = moments
        if self.sampling == "deterministic":
            raw = mean
        else:
            if self.sampling == "once" and item.key:
                generator = torch.Generator().manual_seed(_number(item.key))
            raw = mean + spread * torch.randn(mean.shape, generator=generator)
        return (raw - self.vae.shift) * self.vae.scale

    def _moments(self, item: Item) -> Tensor:
        """(2, C, h, w): mean and standard deviation, not scaled."""
        if not item.key or not self.keep:
            return self._encode(item)
        if item.key not in self._kept:
            self._kept[item.key] = self._from_disk(item)
        return self._kept[item.key]

    def _from_disk(self, item: Item) -> Tensor:
        if self.folder is None:
            return self._encode(item)
        name = hashlib.sha256(repr((item.key, self.vae_identity)).encode()).hexdigest()
        path = self.folder / name[:2] / f"{name}.safetensors"
        try:
            return load_file(path)["moments"]
        except (OSError, SafetensorError, KeyError):
            moments = self._encode(item)
            write_atomic(path, save({"moments": moments}))
            return moments

    def _encode(self, item: Item) -> Tensor:
        pixels = torch.from_numpy(np.array(item.read())).permute(2, 0, 1).unsqueeze(0)
        with torch.no_grad():
            mean, spread = self.vae.moments(pixels.float() / 127.5 - 1)
        return torch.stack([mean[0], spread[0]]).cpu()


def masks_of(items: Sequence[Item], size: tuple[int, int]) -> Tensor | None:
    """(N, 1, h, w) weights at the latents' size, the mean of the pixels each covers; None when no item has one."""
    if not any(item.mask for item in items):
        return None
    rows = [torch.ones(1, 1, *size) if item.mask is None else _shrunk(item.mask(), size) for item in items]
    return torch.cat(rows)


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> Tensor:
    return F.interpolate(torch.from_numpy(mask).float()[None, None], size, mode="area")


def _number(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")
