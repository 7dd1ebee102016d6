"""Decoded pictures into files' pixels."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from webui.pipeline.upscaling import resized as resized  # hires fix and img2img find it beside the other steps


def to_image(decoded: Tensor) -> Image.Image:
    """An RGB picture from (3, H, W) in about [-1, 1]; fractions of a level are cut off, as A1111 does."""
    levels = ((decoded.float() + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def to_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) float32 in [-1, 1]."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels * 2 - 1).permute(2, 0, 1)


def cropped_to(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of the picture, cut to a size on the latent's grid of 8 pixels."""
    left, top = (image.width - width) // 8 // 2 * 8, (image.height - height) // 8 // 2 * 8
    return image.crop((left, top, left + width, top + height))
