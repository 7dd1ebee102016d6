"""Reading and writing styles.csv, also as people and spreadsheets leave it behind."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from webui.core.texts import clean_text

COLUMNS = ("name", "prompt", "negative_prompt")
OLD_NAMES = {"text": "prompt"}
SEPARATORS = ",;\t|"
_SPACED_QUOTE = re.compile(r'\s+"')


class NotStyles(ValueError):
    """The file can't be understood as styles; the message says why."""


class Row(NamedTuple):
    """A style as it stands in the file."""

    name: str
    prompt: str
    negative_prompt: str


def read_rows(data: bytes) -> list[Row]:
    """The styles of a file: rows with a name that doesn't start with "#".

    Separated by commas, semicolons, tabs or bars, as the first line tells; after a separator, spaces may stand before
    a quotation mark. UTF-8, or UTF-16 with its mark. Raises: NotStyles.
    """
    lines = _decoded(data)
    if not lines.strip():
        return []
    if lines.startswith("sep="):  # Excel's own first line
        lines = lines.partition("\n")[2]
    separator = max(SEPARATORS, key=lambda sign: len(_columns(lines, sign)))
    columns = _columns(lines, separator)
    if "name" not in columns or len(columns) < 2:
        start = " ".join(_first_line(lines).split())[:80]
        raise NotStyles(f'its first line should be "name,prompt,negative_prompt", not "{start}"')
    rows = _parsed(lines, separator)[1:]

    def cell(row: list[str], column: str) -> str:
        place = columns.get(column)
        return row[place] if place is not None and place < len(row) else ""

    found = (Row(*(cell(row, column) for column in COLUMNS)) for row in rows)
    return [row for row in found if row.name and not row.name.startswith("#")]


def written_rows(rows: Iterable[Row]) -> bytes:
    """The file as A1111 writes it: UTF-8 with its mark, commas, lines ended by CR and LF."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(tuple(map(clean_text, row)) for row in rows)
    return text.getvalue().encode("utf-8-sig")


def set_aside(path: Path, data: bytes) -> Path:
    """The first of x.original, x.original-1, ... that isn't there or holds the same: where a file of others is kept."""
    for count in range(1000):
        place = path.with_name(f"{path.name}.original" + (f"-{count}" if count else ""))
        if not place.exists() or place.read_bytes() == data:
            return place
    raise OSError(f"there are a thousand copies of {path.name} already")


def _decoded(data: bytes) -> str:
    """Raises: NotStyles for other encodings than UTF-8 and UTF-16."""
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotStyles(f"{error.reason} at byte {error.start}; save it as CSV in UTF-8") from error


def _parsed(lines: str, separator: str) -> list[list[str]]:
    """Raises: NotStyles for a quotation mark that is never closed: the rest of the file would be one text."""

    def rows(skipinitialspace: bool = False, strict: bool = False) -> list[list[str]]:
        text = io.StringIO(lines, newline="")
        return list(csv.reader(text, delimiter=separator, skipinitialspace=skipinitialspace, strict=strict))

    try:
        found = rows()
        if any(_SPACED_QUOTE.match(cell) for row in found for cell in row):
            found = rows(skipinitialspace=True)
        skips = found != rows()
    except csv.Error as error:
        raise NotStyles(str(error)) from error
    try:
        rows(skips, strict=True)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise NotStyles('a quotation mark (") is never closed') from error
    return found


def _first_line(lines: str) -> str:
    return re.split(r"[\r\n]", lines, maxsplit=1)[0]


def _columns(lines: str, separator: str) -> Mapping[str, int]:
    """The columns that the first line names -> where they stand, if it is separated so."""
    first = next(csv.reader([_first_line(lines)], delimiter=separator, skipinitialspace=True), [])
    names = ["".join(letter for letter in name if letter.isprintable()).strip().lower() for name in first]
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        plain = OLD_NAMES.get(name, name)
        if plain in COLUMNS:
            places.setdefault(plain, place)
    return places
