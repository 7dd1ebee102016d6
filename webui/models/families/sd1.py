"""Stable Diffusion 1.x: CLIP-L, a U-Net with one transformer a block."""

from __future__ import annotations

from webui.models.families.unet import TextPart, UNetFamily, UNetModel

SD1 = UNetFamily(texts=(TextPart("clip_l", "cond_stage_model.transformer."),), model=UNetModel, heads=8, linear=False)
