"""What inpainting and instruct-pix2pix models read beside the noisy latent."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from webui.models.families.base import LoadedModel


def input_channels(
    model: LoadedModel,
    latent_size: tuple[int, int],
    count: int,
    seed: int,
    pictures: Tensor | None = None,
    mask: Tensor | None = None,
    mask_weight: float = 1.0,
) -> Tensor | None:
    """(count, C', h, w) for a model that reads more than x, else None.

    latent_size: (h, w). seed: of the encoder's noise. pictures: (1 or count, 3, H, W) in [-1, 1].
    mask: (1, 1, H, W), 1 paints anew. Without pictures or mask everything is to be painted, over grey.
    mask_weight: how much of the masked part an inpainting model doesn't see.
    """
    kind = model.capabilities.input_kind
    if kind == "plain":
        return None
    height, width = latent_size
    with torch.inference_mode():
        if kind == "edit":
            if pictures is None:
                return torch.zeros(count, model.capabilities.latent_channels, height, width, device=model.device)
            return _for_all(model.vae.mode(pictures), count)
        if pictures is None:
            pictures = torch.zeros(1, 3, height * 8, width * 8, device=model.device)
        if mask is None:
            mask = torch.ones(1, 1, *pictures.shape[-2:], device=pictures.device)
        seen = torch.lerp(pictures, pictures * (1 - mask), mask_weight)
        encoded = model.encode(seen, torch.Generator().manual_seed(seed)).float()
        small = F.interpolate(mask, size=latent_size).expand(len(encoded), -1, -1, -1)
        return _for_all(torch.cat([small, encoded], dim=1), count)


def _for_all(channels: Tensor, count: int) -> Tensor:
    return channels.repeat(count, 1, 1, 1) if len(channels) == 1 else channels
