"""What img2img's radio buttons are called, here and in infotexts, and the values they stand for."""

from __future__ import annotations

from collections.abc import Mapping

RESIZE_MODES: Mapping[str, int] = {
    "Just resize": 0,
    "Crop and resize": 1,
    "Resize and fill": 2,
    "Just resize (latent upscale)": 3,
}
MASK_MODES: Mapping[str, bool] = {"Inpaint masked": False, "Inpaint not masked": True}
MASKED_CONTENT: Mapping[str, int] = {"fill": 0, "original": 1, "latent noise": 2, "latent nothing": 3}
INPAINT_AREAS: Mapping[str, bool] = {"Whole picture": False, "Only masked": True}

BY_FIELD: Mapping[str, Mapping[str, int] | Mapping[str, bool]] = {
    "image.resize_mode": RESIZE_MODES,
    "image.inpaint.invert": MASK_MODES,
    "image.inpaint.fill": MASKED_CONTENT,
    "image.inpaint.only_masked": INPAINT_AREAS,
}
"""Dotted path of the parameter -> its choices."""
