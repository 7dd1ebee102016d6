"""Input pictures: what is read, made opaque, and brought to size."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from webui.core.errors import InvalidRequest
from webui.core.pictures import decoded_picture, flattened
from webui.pipeline.from_image.image_input import (
    CROP_AND_RESIZE,
    JUST_RESIZE,
    LATENT_UPSCALE,
    RESIZE_AND_FILL,
    fitted,
    pixels_hash,
)


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def halves(width: int, height: int) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    return image


def test_a_photo_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    turned = decoded_picture(file_of(halves(40, 20), "JPEG", exif=exif, quality=95), "init_images")
    assert turned.size == (20, 40)
    assert turned.getpixel((10, 5))[0] > 200
    assert turned.getpixel((10, 35))[2] > 200


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (Image.new("RGBA", (4, 4), (1, 2, 3, 4)), "RGBA"),
        (Image.new("LA", (4, 4), (9, 100)), "RGBA"),
        (Image.new("L", (4, 4), 7), "L"),
        (Image.new("1", (4, 4), 1), "L"),
        (Image.new("P", (4, 4), 0), "RGB"),
        (Image.fromarray(np.full((4, 4), 257 * 70, dtype=np.uint16)), "L"),
    ],
)
def test_every_kind_of_picture_becomes_one_of_three(image: Image.Image, mode: str) -> None:
    read = decoded_picture(file_of(image), "init_images")
    assert read.mode == mode
    if image.mode.startswith("I;16"):
        assert read.getpixel((0, 0)) == 70


def test_a_palette_with_a_transparent_colour_has_an_alpha_channel() -> None:
    palette = halves(8, 8).quantize(4)
    transparent = palette.getpixel((0, 0))
    read = decoded_picture(file_of(palette, transparency=transparent), "init_images")
    assert read.mode == "RGBA"
    assert read.getpixel((0, 0))[3] == 0
    assert read.getpixel((7, 0))[3] == 255


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is large and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(30_000, 30_000), (14_000, 12_000)])
def test_a_picture_too_large_to_hold_is_refused_before_its_pixels_are_read(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest):
        decoded_picture(bomb(*size), "init_images")


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"not a picture", bomb(20, 20), file_of(Image.effect_noise((64, 64), 50))[:900]]
)
def test_what_is_no_whole_picture_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(InvalidRequest) as error:
        decoded_picture(data, "mask")
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_transparent_parts_show_the_background() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 255, 255, 0))
    assert list(flattened(image, "#00ff00").getdata()) == [(255, 0, 0), (0, 255, 0)]
    assert flattened(Image.new("L", (1, 1), 5), "#00ff00").getpixel((0, 0)) == (5, 5, 5)


@pytest.mark.parametrize("mode", [JUST_RESIZE, CROP_AND_RESIZE, RESIZE_AND_FILL, LATENT_UPSCALE])
@pytest.mark.parametrize("size", [(64, 64), (40, 72), (72, 40), (8, 200), (33, 7)])
@pytest.mark.parametrize("kind", ["RGB", "L"])
def test_every_mode_gives_exactly_the_size(mode: int, size: tuple[int, int], kind: str) -> None:
    plain = Image.new("RGB", (48, 40), (10, 200, 90)).convert(kind)
    result = fitted(plain, mode, *size)
    assert (result.size, result.mode) == (size, kind)
    assert result.getextrema() == plain.getextrema()  # a picture of one colour stays one, borders and all


def test_cropping_keeps_the_ratio_and_the_middle() -> None:
    image = Image.new("RGB", (60, 20), "red")
    image.paste("lime", (20, 0, 40, 20))
    assert fitted(image, CROP_AND_RESIZE, 20, 20).getextrema() == ((0, 0), (255, 255), (0, 0))


def test_filling_stretches_the_outermost_pixels_over_the_border() -> None:
    image = Image.new("RGB", (20, 20), "white")
    image.paste("red", (0, 0, 4, 20))
    image.paste("blue", (16, 0, 20, 20))
    wide = fitted(image, RESIZE_AND_FILL, 60, 20)
    assert {wide.getpixel((x, 10)) for x in range(20)} == {(255, 0, 0)}
    assert {wide.getpixel((x, 10)) for x in range(40, 60)} == {(0, 0, 255)}
    assert wide.crop((20, 0, 40, 20)).tobytes() == image.tobytes()


def test_pictures_are_told_apart_by_their_pixels() -> None:
    assert pixels_hash(halves(8, 8)) == pixels_hash(decoded_picture(file_of(halves(8, 8)), "init_images"))
    assert pixels_hash(halves(8, 8)) != pixels_hash(halves(8, 9))
