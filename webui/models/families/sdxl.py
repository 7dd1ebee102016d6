"""SDXL and its refiner: the network is told the pooled text and the picture's size and place beside the text.

SSD-1B, Vega and the distilled ones (Turbo, Lightning, Hyper, LCM) are the same with fewer blocks or steps.
Source: Podell et al. 2023, arXiv:2307.01952, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from webui.catalog.families import TURBO_TEXT, XL_TEXT
from webui.models.families.unet import SIZE_WIDTH, TextPart, UNetFamily, UNetModel
from webui.models.text_encoders import Encoded, PictureFacts


class SDXLModel(UNetModel):
    """unet: LatentUNet. The vector beside the text is the pooled text of the first chunk, then six numbers."""

    def conditioning(self, encoded: Sequence[Encoded], facts: PictureFacts) -> tuple[Tensor, Tensor | None]:
        context = torch.cat([part.vectors for part in encoded], dim=-1)
        pooled = encoded[-1].pooled
        assert pooled is not None, "OpenCLIP's encoder pools"
        if facts.without_text:
            context, pooled = torch.zeros_like(context), torch.zeros_like(pooled)
        numbers = sinusoids(torch.tensor(self.numbers(facts), device=pooled.device))
        return context, torch.cat([pooled, numbers.flatten().expand(len(pooled), -1)], dim=-1)

    @staticmethod
    def numbers(facts: PictureFacts) -> list[float]:
        """The original's size, where it was cut, the size it was brought to: height or top first."""
        size = [facts.height, facts.width]
        return [*size, facts.crop_top, facts.crop_left, *size]


class RefinerModel(SDXLModel):
    """Trained on an aesthetic score instead of the size that a picture was brought to."""

    @staticmethod
    def numbers(facts: PictureFacts) -> list[float]:
        return [facts.height, facts.width, facts.crop_top, facts.crop_left, facts.aesthetic_score]


def sinusoids(numbers: Tensor, width: int = SIZE_WIDTH) -> Tensor:
    """(n,) numbers as (n, width): cosines, then sines, of frequencies falling from 1 to 1/10000."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=numbers.device) / half)
    angles = numbers.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _open_clip(prefix: str) -> TextPart:
    return TextPart(
        "clip_g", prefix, "gelu", open_clip=True, layer=2, normed=False, skips="never", pools=True, projects=True
    )


SDXL = UNetFamily(
    texts=(
        TextPart("clip_l", XL_TEXT[0], layer=2, normed=False, skips="when asked"),
        _open_clip(XL_TEXT[1]),
    ),
    model=SDXLModel,
    sizes=6,
)
REFINER = UNetFamily(texts=(_open_clip(TURBO_TEXT),), model=RefinerModel, sizes=5)
