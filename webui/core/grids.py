"""Several pictures as one, with or without words beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from webui.core.errors import InvalidRequest
from webui.core.settings import Settings

STROKE = 4
BUILT_IN = Path(__file__).parent / "data" / "Roboto-Regular.ttf"


@dataclass(frozen=True)
class Legend:
    """One line of words beside a row or over a column. active: False strikes it out."""

    text: str
    active: bool = True


@dataclass(frozen=True)
class LegendLook:
    """Colours as Pillow knows them. font: a font's file, "" for the one built in."""

    font: str = ""
    active: str = "#000000"
    inactive: str = "#999999"
    background: str = "#ffffff"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> LegendLook:
        """As the settings say. Raises: InvalidRequest when the font can't be read."""
        look = cls(
            settings["font"],
            settings["grid_text_active_color"],
            settings["grid_text_inactive_color"],
            settings["grid_background_color"],
        )
        try:
            look.letters(10)
        except OSError as error:
            raise InvalidRequest(
                f'The font "{look.font}" can\'t be read ({error}); choose another file in Settings, or none.'
            ) from error
        return look

    def letters(self, size: int) -> ImageFont.FreeTypeFont:
        """size: of the letters in pixels, at least 1. Raises: OSError when the font's file can't be read."""
        return ImageFont.truetype(self.font or BUILT_IN, max(size, 1))


def grid_rows(count: int, batch_size: int, settings: Settings) -> int:
    """Rows of a grid: the setting's, the batch size for 0, about the square root for -1."""
    wanted = int(settings["n_rows"])
    if wanted > 0:
        rows = wanted
    elif wanted == 0:
        rows = batch_size
    elif settings["grid_prevent_empty_spots"]:
        rows = math.isqrt(count)
        while count % rows:
            rows -= 1
    else:
        rows = round(math.sqrt(count))
    return max(1, min(rows, count))


def make_grid(images: Sequence[Image.Image], rows: int, background: str) -> Image.Image:
    """The pictures side by side, each centred in a cell of the largest one's size."""
    columns = math.ceil(len(images) / rows)
    width, height = max(image.width for image in images), max(image.height for image in images)
    grid = Image.new("RGB", (columns * width, rows * height), background)
    for index, image in enumerate(images):
        left = index % columns * width + (width - image.width) // 2
        top = index // columns * height + (height - image.height) // 2
        grid.paste(image, (left, top))
    return grid


@dataclass(frozen=True)
class Tiling:
    """A picture in tiles of which neighbours share `overlap` pixels, and the picture again of other tiles.

    lefts, tops: where the columns and rows of tiles begin.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    overlap: int
    lefts: tuple[int, ...]
    tops: tuple[int, ...]

    @classmethod
    def of(cls, size: tuple[int, int], tile: tuple[int, int], overlap: int) -> Tiling:
        """As few tiles as cover the picture, evenly spread, as A1111 does. size, tile: (width, height).

        A side of the picture that is shorter than a tile's has one tile as long as itself. Raises: ValueError when the
        overlap is as large as a tile.
        """
        tile = (min(tile[0], size[0]), min(tile[1], size[1]))
        return cls(size, tile, overlap, *(_starts(*sides, overlap) for sides in zip(size, tile, strict=True)))

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(left, top, right, bottom) of each tile, row by row."""
        width, height = self.tile
        return [(left, top, left + width, top + height) for top in self.tops for left in self.lefts]

    def joined(self, tiles: Sequence[Image.Image]) -> Image.Image:
        """The picture of its tiles, given in the order of `boxes`; what two share fades from one to the other."""
        whole, columns = Image.new("RGB", self.size), len(self.lefts)
        for number, top in enumerate(self.tops):
            row = Image.new("RGB", (self.size[0], self.tile[1]))
            for left, tile in zip(self.lefts, tiles[number * columns :], strict=False):
                row.paste(tile, (left, 0), _fade(tile.size, self.overlap if left else 0, upright=True))
            whole.paste(row, (0, top), _fade(row.size, self.overlap if top else 0, upright=False))
        return whole


def _starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    if length <= tile:
        return (0,)
    if overlap >= tile:
        raise ValueError(f"tiles of {tile} pixels can't overlap by {overlap}")
    count = math.ceil((length - overlap) / (tile - overlap))
    step = (length - tile) / (count - 1)
    return tuple(min(int(number * step), length - tile) for number in range(count))


def _fade(size: tuple[int, int], overlap: int, *, upright: bool) -> Image.Image:
    """A mask (L) that rises from 0 to 255 over the first `overlap` columns, or rows, and is 255 from there."""
    mask = Image.new("L", size, 255)
    for place in range(overlap):
        box = (place, 0, place + 1, size[1]) if upright else (0, place, size[0], place + 1)
        mask.paste(place * 255 // overlap, box)
    return mask


def with_legends(
    grid: Image.Image,
    columns: Sequence[Sequence[Legend]],
    rows: Sequence[Sequence[Legend]],
    margin: int = 0,
    look: LegendLook = LegendLook(),
) -> Image.Image:
    """A grid with words over each column and left of each row, as A1111 measures it.

    columns, rows: the lines of each. margin: pixels between cells. The words' height is 1/25 of a cell's two sides;
    on the left they have 3/4 of a cell's width, and none where no row has words.
    """
    width, height = grid.width // len(columns), grid.height // len(rows)
    size = (width + height) // 25
    gap = size // 2
    left = width * 3 // 4 if any(rows) else 0
    tops = [_wrapped(lines, look, size, width) for lines in columns]
    sides = [_wrapped(lines, look, size, left) for lines in rows]
    heights = [sum(word.height + gap for word in words) - gap if words else 0 for words in tops]
    top = max(heights) + gap * 2 if any(heights) else 0
    full = left + grid.width + margin * (len(columns) - 1), top + grid.height + margin * (len(rows) - 1)
    sheet = Image.new("RGB", full, look.background)
    for column in range(len(columns)):
        for row in range(len(rows)):
            cell = grid.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
            sheet.paste(cell, (left + (width + margin) * column, top + (height + margin) * row))
    drawing = ImageDraw.Draw(sheet)
    for column, words in enumerate(tops):
        place = left + (width + margin) * column + width / 2, top / 2 - heights[column] / 2
        _write(drawing, words, look, place, size, gap, width)
    for row, words in enumerate(sides):
        middle = top + (height + margin) * row + height / 2
        _write(drawing, words, look, (left / 2, middle - sum(word.height for word in words) / 2), size, gap, left)
    return sheet


@dataclass(frozen=True)
class _Words:
    """A line as it fits. width, height: of the ink."""

    legend: Legend
    width: int
    height: int


def _wrapped(lines: Sequence[Legend], look: LegendLook, size: int, width: int) -> list[_Words]:
    """The lines, those that are too long broken between words."""
    font, found = look.letters(size), []
    for line in lines:
        for part in _broken(line.text, font, width):
            left, top, right, bottom = font.getbbox(part)
            found.append(_Words(Legend(part, line.active), round(right - left), round(bottom - top)))
    return found


def _broken(text: str, font: ImageFont.FreeTypeFont, width: int) -> Iterator[str]:
    """A word that is too long by itself comes after an empty line, as in A1111."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) > width:
            yield line
            longer = word
        line = longer
    yield line


def _write(
    drawing: ImageDraw.ImageDraw,
    lines: Sequence[_Words],
    look: LegendLook,
    place: tuple[float, float],
    size: int,
    gap: int,
    width: int,
) -> None:
    """The lines one below the other; one that is wider than `width` in smaller letters.

    place: the middle of the first one's upper edge.
    """
    x, y = place
    for words in lines:
        text, fitting = words.legend.text, size
        while fitting > 1 and look.letters(fitting).getbbox(text)[2] > width:
            fitting -= 1
        colour = look.active if words.legend.active else look.inactive
        drawing.text((x, y + words.height / 2), text, colour, look.letters(fitting), "mm")
        if not words.legend.active:
            half, middle = words.width // 2, y + words.height // 2
            drawing.line((x - half, middle, x + half, middle), look.inactive, STROKE)
        y += words.height + gap
