"""Pictures as bytes, with the infotext where A1111 keeps it.

PNG: text chunk `parameters`. JPEG, WebP, AVIF: EXIF UserComment. GIF: the comment. Further texts are chunks of a PNG
too; JPEG, WebP and AVIF have them as JSON in the EXIF MakerNote, GIF has none. One of them, `DIGITAL_SOURCE_TYPE`, is
written where other programs look for it: into an XMP packet.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, get_args
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from webui.core.choices import Choices
from webui.core.errors import InvalidRequest
from webui.core.infotext import render
from webui.core.memory import require_room
from webui.core.png_chunks import SIGNATURE, texts_of, without_bulk
from webui.core.results import COMPOSITE, GENERATED

PictureFormat = Literal["png", "jpg", "webp", "avif", "gif"]
PICTURE_FORMATS: tuple[PictureFormat, ...] = get_args(PictureFormat)
MIME = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif", "gif": "image/gif"}
LARGEST_SIDE = {"jpg": 65_535, "webp": 16_383, "avif": 65_536, "gif": 65_535}
"""In pixels, of the formats that have a limit."""

READABLE = (
    *("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "ICO", "CUR", "JPEG2000"),
    *("PSD", "DDS", "QOI", "PCX", "DCX", "SGI", "SUN", "XBM", "XPM", "MSP", "IM", "SPIDER", "PIXAR", "FITS"),
)
"""Kinds of files that are opened: all of Pillow's pictures but those that it starts other programs for (EPS), that
need one (WMF, HDF5), or whose size it tells only once they are decoded (ICNS)."""

PARAMETERS = "parameters"
DIGITAL_SOURCE_TYPE = "DigitalSourceType"
"""The text that tells how a picture came about: a word of IPTC's vocabulary."""
LONGEST_JPEG_EXIF = 65_533

_EXIF_IFD, _USER_COMMENT, _MAKER_NOTE, _UNDEFINED, _LONG = 0x8769, 0x9286, 0x927C, 7, 4
_ORIENTATION, _LYING = 0x0112, range(5, 9)
_NOTE_MARK = b"Easel\0"
_XMP_KEY = "XML:com.adobe.xmp"
_XMP_COMMENT = "{http://ns.adobe.com/exif/1.0/}UserComment"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}"
 Iptc4xmpExt:DigitalSourceType="{_SOURCE_TYPES}%s"/></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


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
    extra = dict(extra or {})
    xmp = source_type_xmp(extra.pop(DIGITAL_SOURCE_TYPE, ""))
    if format == "png":
        chunks = PngImagePlugin.PngInfo()
        for key, text in {**extra, **({PARAMETERS: infotext} if infotext else {})}.items():
            chunks.add_text(key, _encodable(text))
        if xmp:
            chunks.add_itxt(_XMP_KEY, xmp.decode())
        picture = image if image.mode in _PNG_MODES else image.convert("RGB")
        picture.save(file, "PNG", pnginfo=chunks, compress_level=compress_level)
        return file.getvalue()
    if format == "gif":
        _opaque(image).save(file, "GIF", comment=_encodable(infotext or "").encode())
        return file.getvalue()
    exif = text_exif(infotext or "", extra)
    if format == "jpg":
        fitting = (block for block in (exif, text_exif(infotext or "", {})) if len(block) <= LONGEST_JPEG_EXIF)
        _opaque(image).save(file, "JPEG", quality=quality, exif=next(fitting, b""), xmp=xmp)
    elif format == "webp":
        _opaque(image).save(file, "WEBP", quality=quality, lossless=lossless, exif=exif, xmp=xmp)
    else:
        _opaque(image).save(file, "AVIF", quality=quality, exif=exif, xmp=xmp)
    return file.getvalue()


def source_type_xmp(word: str) -> bytes:
    """The XMP packet that tells this digital source type, b"" for none or an unknown one.

    Source: IPTC Photo Metadata Standard, Digital Source Type; XMP specification, part 1.
    """
    return (_XMP % word).encode() if word in (GENERATED, COMPOSITE) else b""


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


def read_infotext(picture: bytes) -> tuple[str | None, dict[str, str]]:
    """The infotext of a picture file, None if it has none, and its other texts. No pixels are read.

    Looked for in the chunk `parameters`, EXIF UserComment, a GIF's or JPEG's comment, XMP's exif:UserComment.
    NovelAI's pictures get an infotext made from theirs.
    Raises: InvalidRequest if the bytes aren't a picture.
    """
    image, data = _opened(picture)
    items: dict[str, str] = {}
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    if image.format == "PNG":
        items, block = texts_of(data)
        exif, xmp = block or exif, items.get(_XMP_KEY)
        if _source_type(xmp):
            del items[_XMP_KEY]  # ours, which tells nothing else
    elif image.format == "TIFF":
        exif = _tiff_exif(image)
    infotext = items.pop(PARAMETERS, None)
    comment, further = _exif_texts(exif)
    items |= further
    if comment:
        infotext = comment
    elif image.format in ("GIF", "JPEG", "MPO") and image.info.get("comment"):
        infotext = _text(image.info["comment"])
    elif infotext is None:
        infotext = _xmp_comment(xmp)
    source_type = _source_type(xmp)
    if source_type:
        items[DIGITAL_SOURCE_TYPE] = source_type
    if items.get("Software") == "NovelAI":
        infotext = _novelai_infotext(image, items) or infotext
    return infotext or None, items


_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, ValueError, SyntaxError, RuntimeError, EOFError, LookupError, TypeError, AttributeError),
    *(OverflowError, ArithmeticError, NotImplementedError, struct.error, zlib.error),
)
"""What Pillow raises for files that are broken or were made to break it."""


_BAD_PROFILE: tuple[type[Exception], ...] = (*_BROKEN, ImageCms.PyCMSError)


def open_picture(data: bytes) -> Image.Image:
    """The head of a picture file; its pixels are read later, by `decoded_picture`.

    Raises: InvalidRequest if the bytes aren't a picture, or one of absurd size.
    """
    return _opened(data)[0]


def _opened(data: bytes) -> tuple[Image.Image, bytes]:
    """The picture, and the bytes that it is read from: a PNG's without what is too large to be unpacked."""
    Image.init()  # makes the rarer kinds known
    data = without_bulk(data)
    for width, height in _icon_sizes(data):  # Pillow decodes an icon when it opens it
        require_room([("This picture", width, height)])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `require_room` is stricter
            return Image.open(io.BytesIO(data), formats=[kind for kind in READABLE if kind in Image.OPEN]), data
    except Image.DecompressionBombError as error:
        reason = "it has more pixels than any machine works on; scale it down first"
        raise InvalidRequest(f"This picture is too large: {reason}.") from error
    except _BROKEN as error:
        reason = str(error) if str(error) and "BytesIO" not in str(error) else "unknown or damaged file"
        raise InvalidRequest(f"This isn't a picture that can be read: {reason.rstrip('.')}.") from error
    except MemoryError as error:
        raise InvalidRequest("There isn't enough memory to read this picture.") from error


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels as the picture is shown, which EXIF may turn. Raises: InvalidRequest."""
    picture = open_picture(data)
    try:
        turned = picture.info.get("exif") and picture.getexif().get(_ORIENTATION) in _LYING
    except _BROKEN:
        turned = False
    return (picture.height, picture.width) if turned else (picture.width, picture.height)


def require_memory(pictures: Iterable[tuple[str, bytes]]) -> None:
    """Judge all pictures of a request by their heads, before any is decoded. pictures: (name, file).

    Raises: InvalidRequest, as `open_picture` and `require_room`.
    """
    require_room([(name, *open_picture(data).size) for name, data in pictures])


def decoded_picture(data: bytes, name: str = "The picture") -> Image.Image:
    """The first picture of a file, in 8 bits as L or RGB, or as RGBA when anything of it may be transparent.

    Turned as its EXIF says, in the colours that its profile says. Every picture from outside comes in by this door.
    name: of the input, for the sentence.
    Raises: InvalidRequest as `open_picture`, for a file that ends too early, and for more pixels than fit into memory.
    """
    image = open_picture(data)
    width, height = image.size
    require_room([(name, width, height)])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image.load()
        turned = ImageOps.exif_transpose(image)
        return plain(turned)
    except MemoryError as error:
        raise InvalidRequest(f"There isn't enough memory to read {name} of {width} x {height} pixels.") from error
    except _BROKEN as error:
        raise InvalidRequest(f"{name} is damaged and can't be read whole: {error}.") from error


def plain(image: Image.Image) -> Image.Image:
    """The picture with 8 bits a channel, as L, RGB or, when anything of it may be transparent, RGBA."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _as_grey(image)
    elif image.mode == "LAB":
        image = ImageCms.profileToProfile(  # type: ignore[assignment]  # not in place
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    else:
        alpha = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBa", "RGBA")
        if isinstance(profile, bytes):
            image = _in_srgb(image, profile)
        if alpha:
            image = image.convert("RGBA")
        elif image.mode not in ("L", "RGB"):
            image = image.convert("L" if image.mode == "1" else "RGB")
    for key in ("transparency", "icc_profile"):
        image.info.pop(key, None)
    return image


def flattened(image: Image.Image, background: str) -> Image.Image:
    """An RGB picture; what is transparent shows the background, such as "#ffffff"."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    opaque = Image.new("RGBA", image.size, background)
    opaque.paste(image, mask=image)
    return opaque.convert("RGB")


def _as_grey(image: Image.Image) -> Image.Image:
    """Grey values of more than 8 bits, or with fractions, as L: 16 bits scaled down, and others by their largest."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0, neginf=0)
    top = float(values.max(initial=0))
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        top = 65535
    elif image.mode == "F" and top <= 1:
        top = 1
    else:
        top = next((full for full in (255, 65535) if top <= full), top)
    return Image.fromarray(np.clip(values * (255 / top) + 0.5, 0, 255).astype(np.uint8))


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The picture in sRGB, its alpha channel untouched; itself where the profile says nothing usable."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        space = source.profile.xcolor_space.strip()
        if space == "CMYK" and image.mode == "CMYK":
            converted = ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
        elif space == "RGB" and image.mode in ("RGB", "RGBA", "P"):
            image = image.convert("RGBA" if image.mode == "RGBA" or "transparency" in image.info else "RGB")
            converted = ImageCms.profileToProfile(image, source, _srgb())
        else:
            return image
    except _BAD_PROFILE:
        return image  # a profile that is broken, or of another kind than the picture
    return image if converted is None else converted


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _icon_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """The true sizes of the pictures in an icon file, whatever its directory says. Nothing for other files."""
    if not data.startswith((b"\0\0\1\0", b"\0\0\2\0")):
        return
    for number in range(struct.unpack_from("<H", data.ljust(6, b"\0"), 4)[0]):
        entry = data[6 + 16 * number : 22 + 16 * number]
        if len(entry) < 16:
            return
        inner = data[struct.unpack_from("<I", entry, 12)[0] :][:24].ljust(24, b"\0")
        if inner.startswith(SIGNATURE):
            yield struct.unpack_from(">II", inner, 16)
        else:
            width, height = struct.unpack_from("<ii", inner, 4)
            yield abs(width), abs(height)


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
    if not isinstance(exif, bytes) or not exif:
        return "", {}
    block = Image.Exif()
    try:
        block.load(exif if exif.startswith(b"Exif\0\0") else b"Exif\0\0" + exif)
        tags = dict(block.get_ifd(_EXIF_IFD))
    except _BROKEN:
        return "", {}
    comment = tags.get(_USER_COMMENT) or dict(block).get(_USER_COMMENT, b"")  # some put it into the first directory
    return _user_comment(comment, block.endian == "<"), _further_texts(tags.get(_MAKER_NOTE))


def _tiff_exif(image: Image.Image) -> bytes | None:
    """A TIFF's own directory as an EXIF block: that is what it is."""
    try:
        block = image.getexif()
        block.get_ifd(_EXIF_IFD)
        wanted = Image.Exif()
        wanted.endian = block.endian
        wanted.get_ifd(_EXIF_IFD).update(block.get_ifd(_EXIF_IFD))
        return wanted.tobytes()
    except _BROKEN:
        return None


def _xmp_comment(xmp: object) -> str | None:
    """exif:UserComment of an XMP packet, in its first language. Source: XMP specification, part 2, 2.6."""
    if not isinstance(xmp, bytes | str) or not xmp:
        return None
    text = xmp if isinstance(xmp, str) else _text(xmp)
    if "UserComment" not in text or "<!" in text:  # no packet declares entities
        return None
    try:
        root = ElementTree.fromstring(text.strip("\0\ufeff \n"))
    except (ElementTree.ParseError, ValueError):
        return None
    for node in root.iter():
        if node.get(_XMP_COMMENT):
            return node.get(_XMP_COMMENT)
        if node.tag == _XMP_COMMENT:
            return next((part.strip() for part in node.itertext() if part.strip()), None)
    return None


def _source_type(xmp: object) -> str:
    """The digital source type that one of our own packets tells, "" for any other packet."""
    text = xmp if isinstance(xmp, str) else _text(xmp) if isinstance(xmp, bytes) else ""
    plain = text.strip("\0\ufeff \n")
    return next((word for word in (GENERATED, COMPOSITE) if plain == source_type_xmp(word).decode()), "")


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
        return _unicode(text, little_endian).rstrip("\0")
    if code == b"JIS\0\0\0\0\0":
        return _jis(text).rstrip("\0")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        return text.decode("utf-8", "ignore").rstrip("\0")
    if comment[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return comment.decode("utf-16", "replace").rstrip("\0")
    return comment.decode("utf-8", "ignore").strip("\0")


def _unicode(text: bytes, little_endian_block: bool) -> str:
    """UTF-16 as its mark says. Without one big-endian, as A1111 writes it, unless the zeros of Latin letters stand on
    the other side: in a big-endian block so many that no real text has them there. UTF-8 where it reads as such.
    """
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return text.decode("utf-16", "replace")
    if text[:3] == b"\xef\xbb\xbf" or b"Steps: " in text:
        return text.decode("utf-8-sig", "replace")
    first, second = text[0::2].count(0), text[1::2].count(0)
    is_little = second > first and (little_endian_block or second >= 8)
    return text.decode("utf-16-le" if is_little else "utf-16-be", "replace")


def _jis(text: bytes) -> str:
    """The standard means ISO-2022-JP; programs also write Shift JIS or EUC."""
    for coding in ("iso2022_jp", "utf-8", "euc_jp", "shift_jis"):  # the strictest first
        try:
            return text.decode(coding)
        except UnicodeDecodeError:
            continue
    return text.decode("utf-8", "ignore")


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
        return render(items["Description"], str(facts.get("uc", "")), fields)
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
    image = plain(image.copy())
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _text(value: object) -> str:
    return value.decode("utf-8", "ignore") if isinstance(value, bytes) else str(value)


def _encodable(text: str) -> str:
    """`text` with what no encoding can hold, lone surrogates, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
