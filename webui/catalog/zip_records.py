"""Where the records of a zip archive lie, checked before any is believed.

Read by hand, because the standard library believes the archive's own counts: it keeps an object for each of a
million entries and takes the later of two entries with one name. Only what PyTorch writes is known: one disk, no
encryption, records stored or deflated, zip64 where sizes ask for it.
Source: PKWARE's APPNOTE 6.3.9, sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from webui.core.errors import BadModelFile

MAX_RECORDS = 100_000
MAX_DIRECTORY = 16 << 20
MAX_NAME = 512
STORED, DEFLATED = 0, 8
SMALL_INFLATED, MOST_INFLATED = 16 << 20, 4
"""All deflated records may give 16 MiB together, or four times the file: weights hardly shrink, bombs do."""

_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Record:
    """start, stored: offset and length in the file. size: bytes once inflated. crc: of those."""

    start: int
    stored: int
    size: int
    crc: int
    deflated: bool


def read_records(data: memoryview, file: str) -> Mapping[str, Record]:
    """Record name -> where it lies, in the directory's order. data: the whole file. file: its name, for messages.

    Raises: BadModelFile for a damaged archive, two records of one name or in one place, or more than is sensible.
    """
    try:
        return _read(data, file)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise BadModelFile(f"{file} is a damaged zip archive; copy or download it again.") from error


def inflated(data: memoryview, record: Record, file: str) -> bytes:
    """A record's bytes, inflated if need be, its checksum compared.

    Raises: BadModelFile when they are damaged or more than the directory says.
    """
    raw = data[record.start : record.start + record.stored]
    if record.deflated:
        try:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            content = inflater.decompress(raw, record.size + 1)
        except zlib.error as error:
            raise BadModelFile(f"{file} is a damaged zip archive ({error}); fetch it again.") from error
    else:
        content = bytes(raw)
    if len(content) != record.size or zlib.crc32(content) != record.crc:
        raise BadModelFile(f"{file} is a damaged zip archive: a checksum is wrong; copy or download it again.")
    return content


def _read(data: memoryview, file: str) -> Mapping[str, Record]:
    count, size, start = _directory(data, file)
    if count > MAX_RECORDS or size > MAX_DIRECTORY:
        raise BadModelFile(f"{file} claims {count} records in a directory of {size} bytes; no model has so many.")
    if start + size > len(data):
        raise BadModelFile(f"{file} is cut off or damaged: its directory lies outside; copy or download it again.")
    records: dict[str, Record] = {}
    spans: list[tuple[int, int, str]] = []
    at = start
    for _ in range(count):
        name, record, header, at = _entry(data, at, start + size, file)
        if name in records:
            raise BadModelFile(f"{file} is refused: its zip directory names {name[:80]!r} twice, as disguises do.")
        records[name] = record
        spans.append((header, record.start + record.stored, name))
    _check_spans(spans, start, file)
    total = sum(record.size for record in records.values() if record.deflated)
    if total > max(SMALL_INFLATED, MOST_INFLATED * len(data)):
        raise BadModelFile(f"{file} is refused: {len(data)} bytes claim to unpack to {total}, as zip bombs do.")
    return records


def _directory(data: memoryview, file: str) -> tuple[int, int, int]:
    """Count of entries, size and start of the directory, from the record at the archive's end."""
    tail = bytes(data[-(22 + 65_535) :])
    end = tail.rfind(_END)
    if end < 0:
        raise BadModelFile(f"{file} is cut off: a zip archive without its end; copy or download it again.")
    disk, first, here, count, size, start, comment = struct.unpack("<4H2IH", tail[end + 4 : end + 22])
    if disk or first or here != count or end + 22 + comment != len(tail):
        raise BadModelFile(f"{file} is a damaged zip archive, or one over several disks; fetch it again.")
    locator = len(data) - len(tail) + end - 20
    if (count != _FULL16 and _FULL32 not in (size, start)) or data[max(locator, 0) :][:4] != _LOCATOR64:
        return count, size, start
    at = struct.unpack("<Q", data[locator + 8 : locator + 16])[0]
    if data[at : at + 4] != _END64:
        raise BadModelFile(f"{file} is a damaged zip archive; fetch it again.")
    here, count, size, start = struct.unpack("<4Q", data[at + 24 : at + 56])
    return count, size, start


def _entry(data: memoryview, at: int, stop: int, file: str) -> tuple[str, Record, int, int]:
    """Name, record, start of the local header, and where the next entry begins."""
    fields = struct.unpack("<4s6H3I5H2I", data[at : at + 46])
    flags, method, crc, stored, size = fields[3], fields[4], fields[7], fields[8], fields[9]
    name_length, extra_length, comment_length, header = *fields[10:13], fields[16]
    end = at + 46 + name_length + extra_length + comment_length
    if fields[0] != _ENTRY or end > stop:
        raise BadModelFile(f"{file} is a damaged zip archive: its directory is broken; fetch it again.")
    if flags & 1 or method not in (STORED, DEFLATED) or not 0 < name_length <= MAX_NAME:
        raise BadModelFile(f"{file} is refused: its zip records are encrypted or packed in a way PyTorch never uses.")
    raw_name = bytes(data[at + 46 : at + 46 + name_length])
    extra = bytes(data[at + 46 + name_length : at + 46 + name_length + extra_length])
    size, stored, header = _wide(extra, size, stored, header)
    start = _data_start(data, header, raw_name, file)
    if method == STORED and stored != size:
        raise BadModelFile(f"{file} is a damaged zip archive: the sizes of a record disagree; fetch it again.")
    return raw_name.decode("utf-8"), Record(start, stored, size, crc, method == DEFLATED), header, end


def _wide(extra: bytes, *values: int) -> tuple[int, ...]:
    """The values, each that is all ones replaced by its 64-bit form in the extra field."""
    at, wide = 0, b""
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<2H", extra[at : at + 4])
        if kind == 1:
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    found, at = [], 0
    for value in values:
        if value == _FULL32:
            value = struct.unpack("<Q", wide[at : at + 8])[0]
            at += 8
        found.append(value)
    return tuple(found)


def _data_start(data: memoryview, header: int, name: bytes, file: str) -> int:
    """Where a record's bytes begin, by its local header, which must carry the same name."""
    if header + 30 > len(data) or data[header : header + 4] != _LOCAL:
        raise BadModelFile(f"{file} is a damaged zip archive: a record is not where it should be; fetch it again.")
    name_length, extra_length = struct.unpack("<2H", data[header + 26 : header + 30])
    if data[header + 30 : header + 30 + name_length] != name:
        raise BadModelFile(f"{file} is refused: a zip record has two names, as disguises do.")
    return header + 30 + name_length + extra_length


def _check_spans(spans: list[tuple[int, int, str]], stop: int, file: str) -> None:
    """Raises: BadModelFile when two records share bytes or one reaches into the directory."""
    before = 0
    for start, end, name in sorted(spans):
        if start < before or end > stop:
            raise BadModelFile(f"{file} is refused: the zip record {name[:80]!r} overlaps another, as zip bombs do.")
        before = end
