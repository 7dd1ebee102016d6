"""From a unit's picture to the map that its network reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from webui.extensions.api import InvalidRequest, decoded_picture, fit_picture

from . import sizes
from .preprocessors import drawing
from .preprocessors.registry import Preprocessor
from .units import Unit

Picture = Any
HALF = 127.5
"""Of a mask's 255: from here on it masks."""


@dataclass(frozen=True)
class Request:
    """What a map is made for. width, height: of the picture that is generated. seed: for `shuffle`."""

    width: int
    height: int
    seed: int = 0


def opaque(data: bytes, name: str) -> Picture:
    """(H, W, 3) uint8 of a picture file, transparency on white. Raises: InvalidRequest."""
    return on_white(decoded_picture(data, name))


def on_white(picture: Image.Image) -> Picture:
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"))


def levels(data: bytes, name: str) -> Picture:
    """(H, W) uint8 of a mask file: its first channel. Raises: InvalidRequest."""
    picture = decoded_picture(data, name)
    return np.asarray(picture.convert("RGB"))[:, :, 0]


def read_input(unit: Unit, number: int, own: Picture | None) -> Picture:
    """(H, W, 3), or (H, W, 4) with the mask for a preprocessor that reads one. own: what img2img starts from.

    A mask for a preprocessor that takes none is the picture itself: a scribble on the canvas.
    """
    name = f"The picture of ControlNet unit {number}"
    if unit.image is None and own is None:
        raise InvalidRequest(f"ControlNet unit {number} has no picture; load one, or disable the unit.")
    picture = own if unit.image is None else opaque(unit.image, name)
    if unit.mask is None:
        return picture
    mask = levels(unit.mask, f"The mask of ControlNet unit {number}")
    if mask.shape != picture.shape[:2]:
        mask = cv2.resize(mask, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    if unit.preprocessor.masked:
        return np.dstack([picture, mask])
    if not ((mask <= 5).all() or (mask >= 250).all()):
        return drawing.as_rgb(mask)
    return picture


def with_mask(picture: Picture, mask: Picture) -> Picture:
    """(H, W, 4): the mask as a fourth channel, when it is of the picture's size."""
    return np.dstack([picture, mask]) if mask.shape == picture.shape[:2] else picture


def cropped(
    picture: Picture, mode: int, size: tuple[int, int], corners: tuple[int, int, int, int], sampling: Any
) -> Picture:
    """The part of the picture that is painted, once the picture is of the original's `size`; each channel by itself."""
    channels = []
    for channel in range(picture.shape[2]):
        image = fit_picture(Image.fromarray(np.ascontiguousarray(picture[:, :, channel])), mode, *size)
        channels.append(np.asarray(fit_picture(image.crop(corners), 2, sampling.width, sampling.height)))
    return np.dstack(channels)


def detected(unit: Unit, source: Picture, request: Request) -> Picture:
    """What the unit's preprocessor makes of its picture."""
    preprocessor = unit.preprocessor
    resolution = round(unit.resolution)
    if unit.pixel_perfect and preprocessor.resolution is not None:
        resolution = sizes.pixel_perfect_resolution(source, request.width, request.height, unit.resize_mode)
    return draw(preprocessor, source, resolution, unit.a, unit.b, request.seed)


def draw(preprocessor: Preprocessor, source: Picture, resolution: int, a: float, b: float, seed: int = 0) -> Picture:
    """Run a preprocessor. source: (H, W, 3), or (H, W, 4) with a mask. Raises: InvalidRequest."""
    if preprocessor.needs:
        raise InvalidRequest(
            f'The preprocessor "{preprocessor.label}" needs {preprocessor.needs}, which this version can\'t run yet; '
            "choose another, or load a finished map with the preprocessor none."
        )
    if preprocessor.masked:
        if source.shape[2] == 3:
            raise InvalidRequest(f'The preprocessor "{preprocessor.label}" needs a mask beside the picture.')
        return source
    if preprocessor.id == "shuffle":
        random = np.random.RandomState(seed & 0xFFFFFFFF)
        return drawing.shuffled(sizes.scaled_to(source, preprocessor.fixed_resolution), random)
    if preprocessor.id == "color":
        return drawing.color_grid(source, resolution)
    if preprocessor.draw is None:
        return source
    work = preprocessor.draw
    if preprocessor.sized:
        return sizes.at_resolution(source, resolution, lambda picture: work(picture, a, b))
    return work(source, a, b)


def fitted(unit: Unit, found: Picture, request: Request) -> Picture:
    """The map at the size of the picture that is generated; an inpainting map isn't rounded, as in the original."""
    if found.shape[2] == 4:
        found = found.astype(np.float32)
    return sizes.fit(found, request.width, request.height, unit.resize_mode)


def hint(found: Picture) -> Any:
    """(1, 3, H, W) float tensor of a map: 0 to 1, and -1 where an inpainting map is masked."""
    import torch

    colors = torch.from_numpy(found[:, :, :3].astype(np.float32)) / 255
    if found.shape[2] == 4:
        masked = torch.from_numpy(found[:, :, 3] >= HALF)
        colors[masked] = -1.0
    return colors.permute(2, 0, 1)[None]


def picture_of(found: Picture) -> Image.Image:
    """The map to be shown; what an inpainting map masks is half transparent."""
    if found.shape[2] == 3:
        return Image.fromarray(found)
    colors = found[:, :, :3].clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([colors, np.where(found[:, :, 3] >= HALF, 128, 255).astype(np.uint8)]))


def mask_of(found: Picture) -> Picture:
    """(H, W) float32 of an inpainting map: 1 where it is masked, else 0."""
    return (found[:, :, 3] >= HALF).astype(np.float32)
