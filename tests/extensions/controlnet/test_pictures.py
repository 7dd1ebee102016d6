"""Pictures that are damaged, huge, or of unusual kinds, as a unit reads them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from extensions.controlnet import maps
from webui.core.errors import InvalidRequest


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, rows: bytes) -> bytes:
    """Colours of `depth` bits, whatever the rows hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
REFUSED = {
    "cut off": (encoded(NOISE)[:5000], "damaged"),
    "sixty thousand pixels wide": (png(60_000, 60_000, 8, bytes(10_000)), "too large"),
    "empty": (b"", "unknown or damaged"),
    "no picture": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unknown or damaged"),
}
READ = {
    "16 bits a colour": (png(8, 8, 16, (b"\0" + b"\x80\0\x40\0\xff\xff" * 8) * 8), (128, 64, 255)),
    "CMYK": (encoded(Image.new("CMYK", (9, 9), (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
    "moving": (encoded(Image.new("RGB", (9, 9), "red"), "GIF", save_all=True, append_images=[NOISE]), (255, 0, 0)),
    "clear": (encoded(Image.new("RGBA", (9, 9), (9, 9, 9, 0))), (255, 255, 255)),
    "8 by 8192": (encoded(Image.new("RGB", (8, 8192), "blue")), (0, 0, 255)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_whole_picture_is_one_sentence(kind: str) -> None:
    data, says = REFUSED[kind]
    with pytest.raises(InvalidRequest, match=says) as told:
        maps.opaque(data, "Picture 3")
    assert str(told.value).startswith("Picture 3")


@pytest.mark.parametrize("kind", READ)
def test_unusual_kinds_have_their_colours(kind: str) -> None:
    data, colour = READ[kind]
    assert tuple(maps.opaque(data, "Picture")[0, 0]) == colour
