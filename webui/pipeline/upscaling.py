"""Pictures made larger: one function for hires fix, img2img and Extras.

An upscaler is found in the server's `Choices`; its function enlarges by whatever factor it can.
"""

from __future__ import annotations

from PIL import Image

from webui.core.choices import Upscaler, load_function

LANCZOS = Image.Resampling.LANCZOS
MOST_RUNS = 3
"""How often an upscaler of a fixed factor is applied to its own result."""


def upscale(image: Image.Image, upscaler: Upscaler, scale: float) -> Image.Image:
    """The picture at `scale` times its size, each side cut down to a multiple of 8 pixels.

    The upscaler runs until the picture is large enough, Lanczos brings it to size.
    """
    width, height = (max(8, int(side * scale) // 8 * 8) for side in image.size)
    if upscaler.function is not None:
        enlarge = load_function(upscaler.function)
        for _ in range(MOST_RUNS):
            before = image.size
            if image.width >= width and image.height >= height:
                break
            image = enlarge(image, scale)
            if image.size == before:
                break
    return image if image.size == (width, height) else image.resize((width, height), LANCZOS)


def resized(image: Image.Image, upscaler: Upscaler, width: int, height: int) -> Image.Image:
    """The picture at exactly width x height: enlarged by the upscaler where it has to grow, the rest by Lanczos."""
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    if scale > 1 and image.mode != "L" and upscaler.function is not None:
        image = upscale(image, upscaler, scale)
    return image if image.size == (width, height) else image.resize((width, height), LANCZOS)


def by_lanczos(image: Image.Image, scale: float) -> Image.Image:
    return _scaled(image, scale, LANCZOS)


def by_nearest(image: Image.Image, scale: float) -> Image.Image:
    return _scaled(image, scale, Image.Resampling.NEAREST)


def _scaled(image: Image.Image, scale: float, method: Image.Resampling) -> Image.Image:
    return image.resize((int(image.width * scale), int(image.height * scale)), method)
