"""Pictures that a job starts from: decoded, made opaque, brought to size."""

from __future__ import annotations

import hashlib
from typing import Literal

from PIL import Image

from webui.pipeline.upscaling import Enlarger, resized

JUST_RESIZE, CROP_AND_RESIZE, RESIZE_AND_FILL, LATENT_UPSCALE = range(4)
"""The resize modes of img2img."""


def pixels_hash(image: Image.Image) -> str:
    """The MD5 of the decoded pixels, under which an input picture is kept and named in the infotext."""
    return hashlib.md5(image.tobytes(), usedforsecurity=False).hexdigest()


def fitted(image: Image.Image, mode: int, width: int, height: int, enlarger: Enlarger | None = None) -> Image.Image:
    """The picture at a size by one of the resize modes; the latent one falls back to filling.

    JUST_RESIZE stretches it, CROP_AND_RESIZE covers the size and cuts, the others fit it in and fill the borders
    with its outermost rows or columns.
    """
    if mode == JUST_RESIZE:
        return resized(image, enlarger, width, height)
    inner_width, inner_height = _inner_size(image.size, width, height, "cover" if mode == CROP_AND_RESIZE else "fit")
    inner = resized(image, enlarger, inner_width, inner_height)
    left, top = width // 2 - inner_width // 2, height // 2 - inner_height // 2
    canvas = Image.new(image.mode, (width, height))
    canvas.paste(inner, (left, top))
    if mode != CROP_AND_RESIZE:
        _fill_borders(canvas, inner, left, top)
    return canvas


def _inner_size(size: tuple[int, int], width: int, height: int, how: Literal["cover", "fit"]) -> tuple[int, int]:
    """A size of the same ratio that covers the target, or fits into it."""
    old_width, old_height = size
    wider = width / height > old_width / old_height
    if wider == (how == "cover"):
        return width, max(old_height * width // old_width, 1)
    return max(old_width * height // old_height, 1), height


def _fill_borders(canvas: Image.Image, inner: Image.Image, left: int, top: int) -> None:
    """Stretch the edges of `inner`, which lies at (left, top), over what is beside or above and below it."""
    width, height = inner.size
    right, bottom = canvas.width - left - width, canvas.height - top - height
    if left > 0:
        canvas.paste(inner.resize((left, canvas.height), box=(0, 0, 0, canvas.height)), (0, 0))
    if right > 0:
        canvas.paste(inner.resize((right, canvas.height), box=(width, 0, width, canvas.height)), (left + width, 0))
    if top > 0:
        canvas.paste(inner.resize((canvas.width, top), box=(0, 0, canvas.width, 0)), (0, 0))
    if bottom > 0:
        canvas.paste(inner.resize((canvas.width, bottom), box=(0, height, canvas.width, height)), (0, top + height))
