"""Pictures as bytes, with the infotext where A1111 keeps it.

PNG: text chunk `parameters`. JPEG, WebP, AVIF: EXIF UserComment. GIF: the comment, which is only read.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Literal

from PIL import Image, PngImagePlugin

from webui.core.choices import find_sampler
from webui.core.errors import InvalidRequest
from webui.core.infotext import render

PictureFormat = Literal["png", "jpg", "webp", "avif"]
PARAMETERS = "parameters"
LONGEST_JPEG_EXIF = 65_533

_EXIF_IFD, _USER_COMMENT, _UNDEFINED, _LONG = 0x8769, 0x9286, 7, 4
_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_TECHNICAL = frozenset(
    ["jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "exif", "loop", "background", "timestamp", "duration"]
    + ["progressive", "progression", "icc_profile", "chromaticity", "photoshop"]
)


def encode_image(
    image: Image.Image,
    format: PictureFormat,
    infotext: str | None,
    extra: Mapping[str, str] | None = None,
    quality: int = 80,
    lossless: bool = False,
    compress_level: int = 6,
) -> bytes:
    """A picture file. Formats other than PNG lose transparency.

    infotext: None or "" writes none. extra: further text chunks of a PNG; key of 1 to 79 Latin-1 characters.
    quality: 1 to 100 for JPEG, WebP and AVIF. lossless: for WebP. compress_level: 0 to 9 for PNG.
    An infotext of more than 32 000 characters doesn't fit into a JPEG and is left out of it.
    """
    file = io.BytesIO()
    if format == "png":
        chunks = PngImagePlugin.PngInfo()
        for key, text in {**(extra or {}), **({PARAMETERS: infotext} if infotext else {})}.items():
            chunks.add_text(key, _encodable(text))
        picture = image if image.mode in _PNG_MODES else image.convert("RGB")
        picture.save(file, "PNG", pnginfo=chunks, compress_level=compress_level)
        return file.getvalue()
    exif = user_comment_exif(infotext) if infotext else b""
    if format == "jpg":
        fitting = exif if len(exif) <= LONGEST_JPEG_EXIF else b""
        _opaque(image).save(file, "JPEG", quality=quality, exif=fitting)
    elif format == "webp":
        _opaque(image).save(file, "WEBP", quality=quality, lossless=lossless, exif=exif)
    else:
        _opaque(image).save(file, "AVIF", quality=quality, exif=exif)
    return file.getvalue()


def read_infotext(picture: Image.Image | bytes) -> tuple[str | None, dict[str, str]]:
    """The infotext of a picture, None if it has none, and its other texts.

    NovelAI's pictures get an infotext made from theirs.
    Raises: InvalidRequest if the bytes aren't a picture.
    """
    image = open_picture(picture) if isinstance(picture, bytes) else picture
    items = {str(key): _text(value) for key, value in image.info.items() if key not in _TECHNICAL}
    infotext = items.pop(PARAMETERS, None)
    comment = _user_comment(image.info.get("exif"))
    if comment:
        infotext = comment
    elif "exif" not in image.info and "comment" in items:
        infotext = items["comment"]
    if items.get("Software") == "NovelAI":
        infotext = _novelai_infotext(image, items) or infotext
    return infotext, items


def open_picture(data: bytes) -> Image.Image:
    """Raises: InvalidRequest if the bytes aren't a picture, or one of absurd size. Pixels are read later."""
    try:
        return Image.open(io.BytesIO(data))
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise InvalidRequest(f"This isn't a picture that can be read: {error}.") from error


def user_comment_exif(text: str) -> bytes:
    """An EXIF block whose only entry is UserComment.

    By hand, since Pillow would mark the comment as bytes, where the standard and other readers want "undefined".
    Source: Exif 2.3 (CIPA DC-008), 4.6.5; TIFF 6.0, section 2: big-endian, one directory that points to another.
    """
    comment = b"UNICODE\0" + _encodable(text).encode("utf-16-be")
    first, second = 8, 8 + 18
    return b"".join(
        [
            b"Exif\0\0MM\0*" + struct.pack(">I", first),
            struct.pack(">HHHIII", 1, _EXIF_IFD, _LONG, 1, second, 0),
            struct.pack(">HHHIII", 1, _USER_COMMENT, _UNDEFINED, len(comment), second + 18, 0),
            comment,
        ]
    )


def _user_comment(exif: object) -> str:
    """The UserComment of an EXIF block, "" if there is none."""
    if not isinstance(exif, bytes):
        return ""
    block = Image.Exif()
    try:
        block.load(exif if exif.startswith(b"Exif\0\0") else b"Exif\0\0" + exif)
        comment = block.get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
    except (OSError, ValueError, SyntaxError, struct.error):
        return ""
    if not isinstance(comment, bytes):
        return str(comment)
    code, text = comment[:8], comment[8:]
    if code == b"UNICODE\0":
        return text.decode(_utf16(text, block.endian == "<"), "replace")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        return text.decode("utf-8", "ignore")
    return comment.decode("utf-8", "ignore")


def _utf16(text: bytes, little_endian_block: bool) -> str:
    """The encoding of a UserComment: as its mark says; big-endian, unless both its block and the zeros of its
    Latin letters are little-endian."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    return "utf-16-le" if little_endian_block and text[1::2].count(0) > text[0::2].count(0) else "utf-16-be"


def _novelai_infotext(image: Image.Image, items: Mapping[str, str]) -> str | None:
    """None if the comment isn't NovelAI's."""
    try:
        facts = json.loads(items["Comment"])
        fields = {
            "Steps": facts["steps"],
            "Sampler": _sampler_name(str(facts["sampler"])),
            "CFG scale": facts["scale"],
            "Seed": facts["seed"],
            "Size": f"{image.width}x{image.height}",
            "Clip skip": 2,
            "ENSD": 31337,
        }
        return render(items["Description"], str(facts["uc"]), fields)
    except (KeyError, TypeError, ValueError):
        return None


def _sampler_name(name: str) -> str:
    try:
        return find_sampler(name)[0].name
    except InvalidRequest:
        return "Euler a"


def _opaque(image: Image.Image) -> Image.Image:
    """RGB or grey with 8 bits."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 257).convert("L")
    return image.convert("RGB")


def _text(value: object) -> str:
    return value.decode("utf-8", "ignore") if isinstance(value, bytes) else str(value)


def _encodable(text: str) -> str:
    """`text` with what no encoding can hold, lone surrogates, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
