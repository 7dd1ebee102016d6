"""A dry run: instead of a model's picture, the init with a frame drawn into it as strongly as it would be painted."""

from __future__ import annotations

from typing import Any

import numpy as np

from .animation import Diffusion


def paint_preview(width: int, height: int) -> Any:
    """A `generate` for the frame loop that needs no model."""
    import cv2

    drawn = np.zeros((height, width, 3), dtype=np.uint8)
    first, second = (int(height / 3), int(width / 3)), (int(height - height / 3), int(width - width / 3))
    cv2.rectangle(drawn, first, second, (255, 255, 255), 2)

    def generate(init: Any, diffusion: Diffusion) -> Any:
        start = np.zeros_like(drawn) if init is None else init
        share = diffusion.denoising if init is not None else 1.0
        return (start * (1 - share) + drawn * share).astype(np.uint8)

    return generate
