"""Pictures as people have them: every mode becomes one of three, texts are found wherever formats keep them, and
what would not fit into memory is refused by its head."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from webui.core.errors import InvalidRequest
from webui.core.memory import available_bytes
from webui.core.pictures import READABLE, decoded_picture, encode_image, read_infotext, require_memory, size_of

CASES = Path(__file__).parents[1] / "fixtures/pictures"
TEXT = "a cat\nNegative prompt: ugly\nSteps: 20, Sampler: Euler a, Seed: 1"
RAMP = np.tile(np.linspace(0, 1, 64), (16, 1))


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(data: bytes) -> np.ndarray:
    return np.asarray(decoded_picture(data).convert("L"), dtype=int)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, kind: int = 0, *more: bytes, rows: bytes | None = None) -> bytes:
    """A PNG by hand: 8 bits, colour type `kind`, `more` chunks after the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    pixels = zlib.compress(rows if rows is not None else b"\0" * (width + 1) * height)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixels) + b"".join(more) + chunk(b"IEND", b"")


def sixteen(array: np.ndarray) -> Image.Image:
    return Image.fromarray((array * 65535).astype(np.uint16))


@pytest.mark.parametrize(
    "data",
    [
        (CASES / "grey16.png").read_bytes(),
        file_of(sixteen(RAMP)),
        file_of(sixteen(RAMP), "TIFF"),
        file_of(Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
        file_of(Image.fromarray((RAMP * 65535).astype(np.int32)), "TIFF"),
        file_of(Image.fromarray((RAMP * 255).astype(np.int32)), "TIFF"),
        b"P5 64 16 65535\n" + (RAMP * 65535).astype(">u2").tobytes(),
        file_of(Image.fromarray((RAMP * 255).astype(np.uint8)), "PCX"),
    ],
    ids=["case", "png16", "tiff16", "tiff float", "tiff int32", "tiff int32 of 8 bits", "pgm16", "pcx"],
)
def test_grey_of_any_depth_keeps_its_brightness(data: bytes) -> None:
    pixels = grey(data)
    assert abs(pixels.mean() - 127) < 3
    assert pixels[:, 0].max() < 20
    assert pixels[:, -1].min() > 235


def test_sixteen_bit_grey_is_rounded_to_the_nearest_level() -> None:
    values = np.array([[0, 128, 129, 257, 32767, 65407, 65535]], dtype=np.uint16)
    assert grey(file_of(Image.fromarray(values))).tolist() == [[0, 0, 1, 1, 127, 255, 255]]


def test_floats_that_are_no_numbers_are_black() -> None:
    values = np.array([[np.nan, np.inf, -1, 0.5, 1]], dtype=np.float32)
    assert grey(file_of(Image.fromarray(values), "TIFF")).tolist() == [[0, 0, 0, 128, 255]]


def test_what_may_be_transparent_has_an_alpha_channel_and_carries_no_leftovers() -> None:
    colour = Image.new("RGB", (8, 8), (200, 30, 40))
    inputs = {
        "palette": ((CASES / "palette.png").read_bytes(), "RGBA"),
        "one colour of RGB": (file_of(colour, transparency=(200, 30, 40)), "RGBA"),
        "grey with alpha": (file_of(Image.new("LA", (8, 8), (9, 100))), "RGBA"),
        "gif": (file_of(Image.new("P", (8, 8)), "GIF", transparency=0), "RGBA"),
        "webp": (file_of(Image.new("RGBA", (8, 8), (1, 2, 3, 4)), "WEBP", lossless=True), "RGBA"),
        "black and white": (file_of(Image.new("1", (8, 8), 1)), "L"),
        "cmyk jpeg": (file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), "RGB"),
        "cmyk tiff": (file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), "RGB"),
        "ycbcr jpeg": (file_of(colour, "JPEG"), "RGB"),
        "lab tiff": (file_of(Image.new("LAB", (8, 8), (128, 128, 128)), "TIFF"), "RGB"),
    }
    for name, (data, mode) in inputs.items():
        image = decoded_picture(data)
        assert (name, image.mode) == (name, mode)
        again = Image.open(io.BytesIO(encode_image(image.convert("RGB"), "png", None)))
        again.load()
        assert (name, again.text, again.convert("RGBA").size) == (name, {}, image.size)
    red = decoded_picture(inputs["cmyk jpeg"][0]).getpixel((4, 4))
    assert red[0] > 200 > 60 > max(red[1:])


def test_a_wide_gamut_profile_is_obeyed_and_srgb_changes_nothing() -> None:
    image = Image.effect_noise((8, 8), 80).convert("RGB")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decoded_picture(file_of(image, icc_profile=srgb)).tobytes() == image.tobytes()
    assert decoded_picture(file_of(image, icc_profile=b"broken")).tobytes() == image.tobytes()
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()  # of another kind than the picture
    assert decoded_picture(file_of(image, icc_profile=xyz)).tobytes() == image.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_in_every_format_is_turned(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if orientation == 1 and kind == "TIFF" else {"exif": exif}
    data = file_of(Image.new("RGB", (16, 8)), kind, **options)
    turned = (8, 16) if orientation >= 5 else (16, 8)
    assert decoded_picture(data).size == turned
    assert size_of(data) == turned


@pytest.mark.parametrize("name", ["big-profile.png", "big-text.png"])
def test_a_large_compressed_chunk_is_left_out_and_the_pixels_count(name: str) -> None:
    data = (CASES / name).read_bytes()
    assert min(decoded_picture(data).size) > 0
    read_infotext(data)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_bombs_in_texts_before_and_after_the_pixels(kind: bytes, place: str) -> None:
    packed = zlib.compress(b"\0" * 5_000_000, 9)
    head = {b"zTXt": b"bomb\0\0", b"iTXt": b"bomb\0\1\0\0\0", b"iCCP": b"bomb\0\0"}[kind]
    bombs = [chunk(kind, head + packed)] * (1 if kind == b"iCCP" else 200)
    kept = chunk(b"tEXt", b"parameters\0" + TEXT.encode())
    plain = png_of(4, 4)
    split = plain.index(b"IDAT") - 4 if place == "before" else plain.index(b"IEND") - 4
    data = plain[:split] + b"".join(bombs) + kept + plain[split:]
    assert read_infotext(data) == (TEXT, {})
    assert decoded_picture(data).size == (4, 4)


def test_only_true_texts_are_items() -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Author", "me", zip=True)
    chunks.add_itxt("Title", "猫", "ja", "T")
    png = file_of(Image.new("P", (4, 4)), pnginfo=chunks, transparency=0, dpi=(72, 72), gamma=0.4)
    assert read_infotext(png) == (None, {"Author": "me", "Title": "猫"})
    for kind in ("TIFF", "BMP", "PCX", "JPEG", "WEBP", "TGA"):
        assert read_infotext(file_of(Image.new("RGB", (4, 4)), kind)) == (None, {}), kind
    assert read_infotext(file_of(Image.new("CMYK", (4, 4)), "JPEG")) == (None, {})
    late = png_of(4, 4, 0, chunk(b"tEXt", b"parameters\0" + TEXT.encode()), chunk(b"tEXt", b"more\0x"))
    assert read_infotext(late) == (TEXT, {"more": "x"})


def comment_exif(comment: bytes, endian: str) -> Image.Exif:
    exif = Image.Exif()
    exif.endian = endian
    exif.get_ifd(0x8769)[0x9286] = comment
    return exif


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + b"\xff\xfe" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + b"\xfe\xff" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode(),
        b"ASCII\0\0\0" + TEXT.encode() + b"\0",
        b"JIS\0\0\0\0\0" + TEXT.encode("iso2022_jp"),
        b"\0" * 8 + TEXT.encode(),
        TEXT.encode(),
    ],
    ids=["be", "le", "le with mark", "be with mark", "utf-8", "ascii", "jis", "undefined", "none"],
)
def test_user_comments_of_every_program(kind: str, endian: str, comment: bytes) -> None:
    data = file_of(Image.new("RGB", (8, 8)), kind, exif=comment_exif(comment, endian).tobytes())
    assert read_infotext(data)[0] == TEXT


@pytest.mark.parametrize(
    ("code", "coding"),
    [
        *((b"JIS\0\0\0\0\0", coding) for coding in ("iso2022_jp", "shift_jis", "euc_jp", "utf-8")),
        *((b"UNICODE\0", coding) for coding in ("utf-16-be", "utf-16-le", "utf-8")),
        (b"ASCII\0\0\0", "utf-8"),
    ],
)
def test_user_comments_beyond_ascii(code: bytes, coding: str) -> None:
    text = "猫と犬\n" + TEXT
    data = file_of(Image.new("RGB", (8, 8)), "JPEG", exif=comment_exif(code + text.encode(coding), ">"))
    assert read_infotext(data)[0] == text


XMP = """<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 xmlns:exif="http://ns.adobe.com/exif/1.0/">{}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
COMMENT = f'<exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">{TEXT}</rdf:li></rdf:Alt></exif:UserComment>'


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_an_infotext_in_xmp(kind: str) -> None:
    def read(packet: str) -> str | None:
        return read_infotext(file_of(Image.new("RGB", (8, 8)), kind, xmp=packet.encode()))[0]

    assert read(XMP.format(COMMENT)) == TEXT
    assert read(XMP.format("")) is None
    assert read(XMP.format("<exif:UserComment>")) is None
    lol = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
    assert read(lol + XMP.format("<exif:UserComment>&b;</exif:UserComment>")) is None


def test_a_comment_of_a_jpeg_and_the_order_of_places() -> None:
    assert read_infotext(file_of(Image.new("RGB", (8, 8)), "JPEG", comment=TEXT.encode()))[0] == TEXT
    exif = comment_exif(b"UNICODE\0" + b"\0e\0x\0i\0f", ">")
    both = file_of(Image.new("RGB", (8, 8)), "JPEG", comment=b"comment", exif=exif, xmp=XMP.format(COMMENT).encode())
    assert read_infotext(both)[0] == "exif"


def test_novelai_without_a_negative_prompt_and_other_programs_texts() -> None:
    infotext, items = read_infotext((CASES / "comfy.png").read_bytes())
    assert (infotext, sorted(items)) == (None, ["prompt", "workflow"])
    infotext, items = read_infotext((CASES / "novelai-without-uc.png").read_bytes())
    assert sorted(items) == ["Comment", "Description", "Software", "Source", "Title"]
    assert infotext
    assert "Negative prompt" not in infotext


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "DDS", "QOI", "PCX",
             "SGI", "IM", "SPIDER", "MSP", "XBM", "DIB"],
)  # fmt: skip
def test_what_pillow_opens_we_open(kind: str) -> None:
    assert kind in READABLE
    mode = {"MSP": "1", "XBM": "1", "SPIDER": "F"}.get(kind, "RGB")
    assert decoded_picture(file_of(Image.new(mode, (16, 16)), kind)).size == (16, 16)


# Memory


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def icon_of(inner: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def test_bombs_are_refused_by_their_heads() -> None:
    large = png_of(16_384, 8_192)
    assert len(large) < 1_000_000
    decoded_picture(png_of(8, 8))
    before = resident()
    for data in (large, png_of(50_000, 50_000, rows=b""), icon_of(large), png_of(2**31 - 1, 2**31 - 1, rows=b"")):
        with pytest.raises(InvalidRequest, match="million|too large|can't be read") as error:
            decoded_picture(data, "The mask")
        assert "\n" not in str(error.value)
    assert resident() - before < 32 * 2**20


def test_all_pictures_of_a_request_share_one_budget() -> None:
    one = png_of(8_192, 4_096)
    require_memory([("The picture", png_of(64, 64))] * 6)
    if available_bytes() > 4 * 2**30:
        require_memory([("The picture", one)])
    with pytest.raises(InvalidRequest, match=r"The 6 pictures and masks of this request have 201 million pixels"):
        require_memory([("The picture", one)] * 6)


def test_running_out_of_memory_is_not_called_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(InvalidRequest, match="There isn't enough memory to read The picture of 8 x 8 pixels"):
        decoded_picture(png_of(8, 8))
