"""Pictures brought to size for extensions, as img2img does it; what does it is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.core.choices import load_function

if TYPE_CHECKING:
    from PIL.Image import Image


def fit_picture(image: Image, mode: int, width: int, height: int) -> Image:
    """The picture at width x height by one of A1111's resize modes, by Lanczos.

    mode: 0 stretches it, 1 covers the size and cuts, 2 fits it in and fills the borders with its outermost pixels.
    """
    fitted: Image = load_function("webui.pipeline.from_image.image_input:fitted")(image, mode, width, height)
    return fitted
