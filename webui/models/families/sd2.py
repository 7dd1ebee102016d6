"""Stable Diffusion 2.x: OpenCLIP's ViT-H, read before its last layer; 512 pixels predict noise, 768 v."""

from __future__ import annotations

from webui.catalog.families import TURBO_TEXT
from webui.models.families.unet import TextPart, UNetFamily, UNetModel


def _family(prefix: str) -> UNetFamily:
    text = TextPart("clip_h", prefix, "gelu", cut=True, open_clip=True, skips="never")
    return UNetFamily(texts=(text,), model=UNetModel)


SD2 = _family("cond_stage_model.model.")
SD2_TURBO = _family(TURBO_TEXT)
