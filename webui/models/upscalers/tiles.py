"""A picture enlarged piece by piece, so that its size doesn't matter for the device's memory.

Each piece is read with more around it than it writes, and neighbours fade into each other, so that no seam shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

CONTEXT = 48
"""Pixels around a piece that the network sees besides. R-ESRGAN 4x+ looks that far: with 32 pixels its tiles differ by
up to 7/255 from the whole, with 48 by 2."""

Pixels: TypeAlias = NDArray[np.uint8]
Enlarge: TypeAlias = Callable[[Pixels], NDArray[np.float32]]


@dataclass(frozen=True)
class Span:
    """A piece along one axis, in pixels of the picture that is enlarged.

    write: first and last (exclusive) pixel that the piece writes. read: the same of what the network sees.
    fade_in, fade_out: pixels at the ends of `write` that a neighbour writes, too.
    """

    write: tuple[int, int]
    read: tuple[int, int]
    fade_in: int
    fade_out: int

    def weights(self, scale: int) -> NDArray[np.float32]:
        """How much the piece counts at each pixel that it writes; with its neighbours' it is 1 everywhere."""
        found = np.ones((self.write[1] - self.write[0]) * scale, np.float32)
        rise = self.fade_in * scale
        fall = self.fade_out * scale
        found[:rise] = (np.arange(rise) + 0.5) / max(rise, 1)
        found[len(found) - fall :] = 1 - (np.arange(fall) + 0.5) / max(fall, 1)
        return found


@dataclass(frozen=True)
class Tile:
    """One piece. last_of_row: the next one is in another row."""

    row: Span
    column: Span
    last_of_row: bool


def spans(length: int, tile: int, overlap: int) -> tuple[Span, ...]:
    """Even pieces of at most `tile` pixels of which neighbours share `overlap`; one piece for tile 0."""
    overlap = min(overlap, tile // 2)
    count = 1 if tile <= 0 or length <= tile else -(-length // (tile - overlap))
    overlap = min(overlap, length // count) // 2 * 2
    borders = [round(length * index / count) for index in range(count + 1)]
    half, found = overlap // 2, []
    for index, (begin, end) in enumerate(zip(borders, borders[1:], strict=False)):
        before, after = (half if index else 0), (half if index < count - 1 else 0)
        write = begin - before, end + after
        read = max(0, write[0] - CONTEXT), min(length, write[1] + CONTEXT)
        found.append(Span(write, read, 2 * before, 2 * after))
    return tuple(found)


def tiles_of(width: int, height: int, tile: int, overlap: int) -> tuple[Tile, ...]:
    """Row after row."""
    columns = spans(width, tile, overlap)
    return tuple(Tile(row, column, column is columns[-1]) for row in spans(height, tile, overlap) for column in columns)


def enlarge_in_tiles(
    pixels: Pixels,
    enlarge: Enlarge,
    scale: int,
    tiles: Sequence[Tile],
    walk: Callable[[Sequence[Tile]], Iterable[Tile]] = iter,
) -> Pixels | None:
    """The picture `scale` times as large, in main memory for a strip of it beside the result.

    pixels: (h, w, 3). walk: yields the tiles one after the other; None is returned when it ends early.
    """
    height, width = pixels.shape[:2]
    result = np.empty((height * scale, width * scale, 3), np.uint8)
    strip: NDArray[Any] | None = None
    shared: NDArray[Any] = np.empty((0, width * scale, 3), np.float32)
    """The end of the strip before, to which this one adds."""
    done = 0
    for tile in walk(tiles):
        row, column = tile.row, tile.column
        if strip is None:
            strip = np.zeros(((row.write[1] - row.write[0]) * scale, width * scale, 3), np.float32)
            strip[: len(shared)] = shared
        seen = enlarge(np.ascontiguousarray(pixels[slice(*row.read), slice(*column.read)]))
        piece = seen[_within(row, scale), _within(column, scale)]
        weights = row.weights(scale)[:, None, None] * column.weights(scale)[None, :, None]
        strip[:, column.write[0] * scale : column.write[1] * scale] += piece * weights
        if tile.last_of_row:
            whole = len(strip) - row.fade_out * scale
            at = row.write[0] * scale
            result[at : at + whole] = np.rint(strip[:whole] * 255).clip(0, 255)
            shared, strip = strip[whole:], None
        done += 1
    return result if done == len(tiles) else None


def _within(span: Span, scale: int) -> slice:
    """Of what the network made, the part that is written."""
    return slice((span.write[0] - span.read[0]) * scale, (span.write[1] - span.read[0]) * scale)
