"""What was drawn onto a picture, and what img2img makes of it: another picture, or a mask."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageEnhance, ImageFilter

from webui.core.errors import InvalidRequest
from webui.core.pictures import decoded_picture, require_memory, size_of

PAINTED = 32
"""Opacity (0..255) from which on a pixel counts as painted: fainter is what an eraser leaves at its edges."""


@dataclass(frozen=True)
class Drawing:
    """A picture and the strokes over it, as picture files of one size; strokes is None where nothing was drawn."""

    background: bytes = field(repr=False)
    strokes: bytes | None = field(repr=False)
    size: tuple[int, int]


def drawing_of(background: bytes | None, layers: Sequence[bytes]) -> Drawing | None:
    """What an editor holds: the files of its picture and of its transparent layers; None when it is empty.

    Raises: InvalidRequest for files that aren't pictures, or too large ones.
    """
    files = [*layers, *([background] if background is not None else [])]
    require_memory([("The drawing", file) for file in files])
    drawn = [layer for layer in map(_decoded, layers) if layer.getchannel("A").getbbox()]
    if background is None and not drawn:
        return None
    if background is None:
        background = _png(Image.new("RGBA", drawn[0].size))
    size = size_of(background)
    strokes = Image.new("RGBA", size)
    for layer in drawn:
        strokes.alpha_composite(layer.crop((0, 0, *size)))
    return Drawing(background, _png(strokes) if drawn else None, size)


def sketch(drawing: Drawing) -> bytes:
    """The picture with the strokes on it."""
    if drawing.strokes is None:
        return drawing.background
    picture = _decoded(drawing.background)
    picture.alpha_composite(_decoded(drawing.strokes))
    return _png(picture)


def painted_mask(drawing: Drawing, *, inverted: bool = False) -> bytes:
    """White where the picture was painted over, black elsewhere; one channel.

    Raises: InvalidRequest when nothing was painted, unless what isn't painted is to change (`inverted`).
    """
    if drawing.strokes is None and inverted:
        return _png(Image.new("L", drawing.size))
    return _png(_mask(drawing))


def colour_sketch(drawing: Drawing, blur: float, transparency: float) -> tuple[bytes, bytes]:
    """(picture, mask) of Inpaint sketch: the colours laid softly over the picture, and where they lie.

    blur: deviation in pixels of the Gaussian over colours and edge. transparency: 0..100 percent, which the mask loses.
    Raises: InvalidRequest when nothing was painted.
    """
    mask = ImageEnhance.Brightness(_mask(drawing)).enhance(1 - transparency / 100)
    soft = ImageFilter.GaussianBlur(blur)
    original = _decoded(drawing.background).convert("RGB")
    coloured = _decoded(sketch(drawing)).convert("RGB")
    return _png(Image.composite(coloured.filter(soft), original, mask.filter(soft))), _png(mask)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """A size times `scale`, down to multiples of 8 and not below 8."""
    width, height = (max(int(side * scale) // 8 * 8, 8) for side in size)
    return width, height


def _mask(drawing: Drawing) -> Image.Image:
    if drawing.strokes is None:
        raise InvalidRequest("Nothing is painted yet: paint over the part of the picture that is to change.")
    return _decoded(drawing.strokes).getchannel("A").point(lambda opacity: 255 if opacity >= PAINTED else 0)


def _decoded(data: bytes) -> Image.Image:
    """An RGBA picture. Raises: InvalidRequest."""
    return decoded_picture(data, "The drawing").convert("RGBA")


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
