"""The chunks of a PNG that hold texts, read without its pixels.

Source: PNG specification (W3C, third edition), chapters 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST_COMPRESSED = 2**20
"""Bytes that one compressed chunk may hold unpacked; a larger one is left out. Pillow would refuse the picture."""
MOST_TEXT = 32 * 2**20
"""Bytes of all texts of a picture, unpacked."""
_OVERHEAD = 12


class Chunk(NamedTuple):
    """start, end: where it lies in the file, with its length and checksum."""

    kind: bytes
    start: int
    end: int

    def content(self, data: bytes) -> bytes:
        return data[self.start + 8 : self.end - 4]


class Texts(NamedTuple):
    """texts: by keyword, in the file's order. exif: an EXIF block, b"" if there is none."""

    texts: dict[str, str]
    exif: bytes


def chunks_of(data: bytes) -> Iterator[Chunk]:
    """All chunks that are there whole, in order; nothing for what is no PNG."""
    place = len(SIGNATURE) if data.startswith(SIGNATURE) else len(data)
    while place + _OVERHEAD <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + length + _OVERHEAD
        if end > len(data):
            return
        yield Chunk(kind, place, end)
        if kind == b"IEND":
            return
        place = end


def without_bulk(data: bytes) -> bytes:
    """The PNG without the texts and the colour profile that are too large to be unpacked; itself if none is."""
    bulky, kept_bytes, unpacked_bytes = [], 0, 0
    for chunk in chunks_of(data):
        if chunk.kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            continue
        packed, size = _packed(chunk.kind, chunk.content(data)), chunk.end - chunk.start
        too_large = False
        if packed is not None:
            size = len(_unpacked(packed, LONGEST_COMPRESSED + 1)) if unpacked_bytes < MOST_TEXT else MOST_TEXT
            unpacked_bytes += size
            too_large = size > LONGEST_COMPRESSED
        if too_large or kept_bytes + size > MOST_TEXT:
            bulky.append(chunk)
        else:
            kept_bytes += size
    if not bulky:
        return data
    kept, place = [], 0
    for chunk in bulky:
        kept.append(data[place : chunk.start])
        place = chunk.end
    return b"".join([*kept, data[place:]])


def with_text(data: bytes, keyword: str, text: str) -> bytes:
    """The PNG with one text more, in Latin-1, behind its header."""
    content = keyword.encode("latin-1") + b"\0" + text.encode("latin-1")
    kind = b"tEXt"
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    header = next(chunks_of(data))
    return data[: header.end] + chunk + data[header.end :]


def texts_of(data: bytes) -> Texts:
    """What the tEXt, zTXt, iTXt and eXIf chunks say, wherever they stand. data: as `without_bulk` leaves it."""
    texts: dict[str, str] = {}
    exif = b""
    for chunk in chunks_of(data):
        if chunk.kind == b"eXIf":
            exif = chunk.content(data)
        elif chunk.kind in (b"tEXt", b"zTXt", b"iTXt"):
            content = chunk.content(data)
            keyword, _, rest = content.partition(b"\0")
            packed = _packed(chunk.kind, content)
            if packed is not None:
                rest = _unpacked(packed, LONGEST_COMPRESSED)
            elif chunk.kind == b"iTXt":
                rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
            coding = "utf-8" if chunk.kind == b"iTXt" else "latin-1"
            texts[keyword.decode("latin-1")] = rest.decode(coding, "replace")
    raw = texts.pop("Raw profile type exif", None)  # as ImageMagick writes it
    return Texts(texts, exif or _raw_profile(raw or ""))


def _packed(kind: bytes, content: bytes) -> bytes | None:
    """The zlib stream in a chunk, None in one that is not compressed."""
    rest = content.partition(b"\0")[2]
    if kind in (b"zTXt", b"iCCP"):
        return rest[1:]
    if kind == b"iTXt" and rest[:1] == b"\1":
        return rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return None


def _unpacked(packed: bytes, limit: int) -> bytes:
    """At most `limit` bytes of a zlib stream; what there is of a broken one."""
    try:
        return zlib.decompressobj().decompress(packed, limit)
    except zlib.error:
        return b""


def _raw_profile(text: str) -> bytes:
    """The bytes of "\\nexif\\n  123\\n0a0b..." in hexadecimal; b"" for anything else."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""
