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
        if init is None:
            return drawn
        return cv2.addWeighted(init, 1 - diffusion.denoising, drawn, diffusion.denoising, 0)

    return generate
