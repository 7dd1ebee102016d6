"""Pictures as bytes, with the infotext where A1111 keeps it.

PNG: text chunk `parameters`. JPEG, WebP, AVIF: EXIF UserComment. GIF: the comment. Further texts are chunks of a PNG
too; JPEG, WebP and AVIF have them as JSON in the EXIF MakerNote, GIF has none.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Literal, get_args

from PIL import Image, ImageOps, PngImagePlugin

from webui.core.choices import Choices
from webui.core.errors import InvalidRequest
from webui.core.infotext import render

PictureFormat = Literal["png", "jpg", "webp", "avif", "gif"]
PICTURE_FORMATS: tuple[PictureFormat, ...] = get_args(PictureFormat)
MIME = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif", "gif": "image/gif"}
LARGEST_SIDE = {"jpg": 65_535, "webp": 16_383, "avif": 65_536, "gif": 65_535}
"""In pixels, of the formats that have a limit."""

READABLE = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "ICO", "JPEG2000")
"""Kinds of files that are opened. Not those for which Pillow starts other programs (EPS), nor rare ones."""

PARAMETERS = "parameters"
LONGEST_JPEG_EXIF = 65_533

_EXIF_IFD, _USER_COMMENT, _MAKER_NOTE, _UNDEFINED, _LONG = 0x8769, 0x9286, 0x927C, 7, 4
_NOTE_MARK = b"Easel\0"
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

    infotext: None or "" writes none. extra: further texts, see above; key of 1 to 79 Latin-1 characters.
    quality: 1 to 100 for JPEG, WebP and AVIF. lossless: for WebP. compress_level: 0 to 9 for PNG.
    A JPEG has room for about 32 000 characters: what is longer is left out, the further texts first.
    """
    file = io.BytesIO()
    if format == "png":
        chunks = PngImagePlugin.PngInfo()
        for key, text in {**(extra or {}), **({PARAMETERS: infotext} if infotext else {})}.items():
            chunks.add_text(key, _encodable(text))
        picture = image if image.mode in _PNG_MODES else image.convert("RGB")
        picture.save(file, "PNG", pnginfo=chunks, compress_level=compress_level)
        return file.getvalue()
    if format == "gif":
        _opaque(image).save(file, "GIF", comment=_encodable(infotext or "").encode())
        return file.getvalue()
    exif = text_exif(infotext or "", extra or {})
    if format == "jpg":
        fitting = (block for block in (exif, text_exif(infotext or "", {})) if len(block) <= LONGEST_JPEG_EXIF)
        _opaque(image).save(file, "JPEG", quality=quality, exif=next(fitting, b""))
    elif format == "webp":
        _opaque(image).save(file, "WEBP", quality=quality, lossless=lossless, exif=exif)
    else:
        _opaque(image).save(file, "AVIF", quality=quality, exif=exif)
    return file.getvalue()


def format_for(wanted: str, size: tuple[int, int]) -> PictureFormat:
    """The format that a setting names ("jpg", ".JPEG", ...), PNG where a picture of that size can't be in it.

    Raises: InvalidRequest for a format that can't be written.
    """
    name = wanted.lower().lstrip(".")
    name = "jpg" if name == "jpeg" else name
    for format in PICTURE_FORMATS:
        if format == name:
            return format if max(size) <= LARGEST_SIDE.get(format, max(size)) else "png"
    raise InvalidRequest(f'The picture format "{wanted}" is unknown; choose one of {", ".join(PICTURE_FORMATS)}.')


def read_infotext(picture: Image.Image | bytes) -> tuple[str | None, dict[str, str]]:
    """The infotext of a picture, None if it has none, and its other texts.

    NovelAI's pictures get an infotext made from theirs.
    Raises: InvalidRequest if the bytes aren't a picture.
    """
    image = open_picture(picture) if isinstance(picture, bytes) else picture
    items = {str(key): _text(value) for key, value in image.info.items() if key not in _TECHNICAL}
    infotext = items.pop(PARAMETERS, None)
    comment, further = _exif_texts(image.info.get("exif"))
    items |= further
    if comment:
        infotext = comment
    elif image.format == "GIF":
        infotext = items.pop("comment", None)
        items = {key: text for key, text in items.items() if key not in ("version", "extension")}
    elif "exif" not in image.info and "comment" in items:
        infotext = items["comment"]
    if items.get("Software") == "NovelAI":
        infotext = _novelai_infotext(image, items) or infotext
    return infotext or None, items


_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, ValueError, SyntaxError, RuntimeError, EOFError, LookupError, TypeError, AttributeError),
    *(OverflowError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises for files that are broken or were made to break it."""


def open_picture(data: bytes) -> Image.Image:
    """Raises: InvalidRequest if the bytes aren't a picture, or one of absurd size. Pixels are read later."""
    Image.init()  # makes the rarer kinds known
    try:
        return Image.open(io.BytesIO(data), formats=[kind for kind in READABLE if kind in Image.OPEN])
    except _BROKEN as error:
        reason = str(error) if str(error) and "BytesIO" not in str(error) else "unknown or damaged file"
        raise InvalidRequest(f"This isn't a picture that can be read: {reason.rstrip('.')}.") from error


def decoded_picture(data: bytes) -> Image.Image:
    """The first picture of a file with its pixels, turned as its EXIF says.

    Raises: InvalidRequest as `open_picture`, and for a file that ends too early.
    """
    image = open_picture(data)
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except _BROKEN as error:
        raise InvalidRequest(f"This picture is damaged and can't be read whole: {error}.") from error


def text_exif(infotext: str, extra: Mapping[str, str]) -> bytes:
    """An EXIF block with the infotext as UserComment and further texts as MakerNote; b"" without either.

    By hand, since Pillow would mark the comment as bytes, where the standard and other readers want "undefined".
    Source: Exif 2.3 (CIPA DC-008), 4.6.5; TIFF 6.0, section 2: big-endian, one directory that points to another.
    """
    values: list[tuple[int, bytes]] = []  # by tag, as TIFF wants them
    if extra:
        values.append((_MAKER_NOTE, _NOTE_MARK + json.dumps(dict(extra)).encode()))
    if infotext:
        values.append((_USER_COMMENT, b"UNICODE\0" + _encodable(infotext).encode("utf-16-be")))
    if not values:
        return b""
    first, second = 8, 8 + 18
    directory, content = struct.pack(">H", len(values)), b""
    start = second + 2 + 12 * len(values) + 4
    for tag, value in values:
        directory += struct.pack(">HHII", tag, _UNDEFINED, len(value), start + len(content))
        content += value
    return b"".join(
        [
            b"Exif\0\0MM\0*" + struct.pack(">I", first),
            struct.pack(">HHHIII", 1, _EXIF_IFD, _LONG, 1, second, 0),
            directory + struct.pack(">I", 0),
            content,
        ]
    )


def _exif_texts(exif: object) -> tuple[str, dict[str, str]]:
    """The UserComment of an EXIF block and the texts of our MakerNote, "" and {} if there are none."""
    if not isinstance(exif, bytes):
        return "", {}
    block = Image.Exif()
    try:
        block.load(exif if exif.startswith(b"Exif\0\0") else b"Exif\0\0" + exif)
        tags = dict(block.get_ifd(_EXIF_IFD))
    except _BROKEN:
        return "", {}
    return _user_comment(tags.get(_USER_COMMENT, b""), block.endian == "<"), _further_texts(tags.get(_MAKER_NOTE))


def _further_texts(note: object) -> dict[str, str]:
    if not isinstance(note, bytes) or not note.startswith(_NOTE_MARK):
        return {}
    try:
        texts = json.loads(note.removeprefix(_NOTE_MARK))
    except (ValueError, RecursionError):
        return {}
    return {key: text for key, text in texts.items() if isinstance(text, str)} if isinstance(texts, dict) else {}


def _user_comment(comment: object, little_endian: bool) -> str:
    """The text of a UserComment as any program writes it. little_endian: the order of the block around it."""
    if not isinstance(comment, bytes):
        return str(comment)
    code, text = comment[:8], comment[8:]
    if code == b"UNICODE\0":
        return text.decode(_utf16(text, little_endian), "replace")
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
        return Choices().find_sampler(name)[0].name
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
