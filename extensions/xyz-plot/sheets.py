"""The grids of a plot, of the pictures that were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from PIL import Image

from webui.extensions.api import (
    Choices,
    GenerationRequest,
    GenerationResult,
    Legend,
    LegendLook,
    Params,
    decoded_picture,
    joined,
    make_grid,
    with_fields,
    with_legends,
)

from .plot import Line, Place, Plot

NAME = "xyz_grid"
MISSING = "black"
PER_PICTURE = ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds")


def combine(
    choices: Choices,
    group: type[Params],
    request: GenerationRequest,
    results: Sequence[GenerationResult],
    job: Any,
) -> GenerationResult:
    """The grid over all, those of each Z value if wished, and the cells' pictures if wished.

    What is missing, of a cell that failed or wasn't begun, is black.
    """
    settings = job.settings.replace(**request.overrides)
    plot = Plot.of(choices, group, request, settings)
    made = dict(zip(plot.places, results, strict=False))
    told = comments(plot, made)
    found = {place: result for place, result in made.items() if result.images}
    if not found:
        return replace(joined(results), comments=told)
    sheet = Sheet(with_seeds_of(plot, found), found, LegendLook.of(settings))
    return sheet.result(replace(joined(results), comments=told), partial(save, job, request, group))


def save(
    job: Any, request: GenerationRequest, group: type[Params], image: Image.Image, infotext: str, *, keep: bool
) -> GenerationResult:
    """keep: whether it goes to the disk, if the settings say so."""
    extensions = {name: values for name, values in request.extensions.items() if name != group.__name__}
    shown = request.replace(
        extensions=extensions,
        overrides={**request.overrides, "return_grid": True},  # the setting is about grids of batches
        save_grid=request.save_grid and keep,
    )
    result: GenerationResult = job.save_grid(image, shown, NAME, infotext)
    return result


def comments(plot: Plot, made: Mapping[Place, GenerationResult]) -> tuple[str, ...]:
    """What the cells say, those without a picture by their values; and what the plot itself has to say."""
    told: list[str] = []
    for place, result in made.items():
        names = ", ".join(filter(None, (line.words(index) for line, index in zip(plot.lines, place, strict=True))))
        told += result.comments if result.images else [f"{names}: {comment}" for comment in result.comments]
    if len(made) < plot.count:
        told.append(f"The plot was stopped after {len(made)} of {plot.count} cells; the others are black.")
    if plot.wished.margin_size and not plot.wished.draw_legend:
        told.append("Grid margins have no effect without the legend, as in A1111.")
    return tuple(dict.fromkeys(told))


def with_seeds_of(plot: Plot, found: Mapping[Place, GenerationResult]) -> Plot:
    """The plot with the seeds that were drawn for values of -1."""
    if plot.wished.no_fixed_seeds:
        return plot
    lines = list(plot.lines)
    for number, line in enumerate(plot.lines):
        if line.seed_list is None:
            continue
        values = list(line.values)
        for place, result in found.items():
            raised = plot.offset(place) if line.seed_list == "all_seeds" else 0
            values[place[number]] = result.info[line.seed_list][0] - raised
        lines[number] = replace(line, values=tuple(values))
    x, y, z = lines
    return replace(plot, lines=(x, y, z))


@dataclass(frozen=True)
class Sheet:
    """found: the results of the cells that have a picture."""

    plot: Plot
    found: Mapping[Place, GenerationResult]
    look: LegendLook

    def result(self, whole: GenerationResult, save: Any) -> GenerationResult:
        """whole: facts and comments of all cells. save: (image, infotext, keep) -> a result of it alone."""
        plot, (_, _, depth) = self.plot, self.plot.sizes
        wished, texts = plot.wished, [self.text(z, plot.lines[:2]) for z in range(depth)]
        grids = [self.grid(z) for z in range(depth)]
        text = self.text(0, plot.lines)
        sheets = [save(self.over_all(grids), text, keep=True)]
        if wished.include_sub_grids:
            sheets += [save(grid, text, keep=depth > 1) for grid, text in zip(grids, texts, strict=True)]
        cells = [self.found[place] for place in self.in_order if place in self.found]
        firsts = [self.first(z) for z in range(depth)] if wished.include_sub_grids else []
        pictures = [cell.images[0] for cell in cells] if wished.include_lone_images else []
        images = (*(image for sheet in sheets for image in sheet.images), *pictures)
        info = {
            **whole.info,
            **{key: [cell.info[key][0] for cell in (*firsts, *cells)] for key in PER_PICTURE},
            "infotexts": [text, *(texts if firsts else ()), *(cell.images[0].infotext for cell in cells)],
            "index_of_first_image": 1,
        }
        unsaved = whole.unsaved or next((sheet.unsaved for sheet in sheets if sheet.unsaved), None)
        told = (*whole.comments, *(comment for sheet in sheets for comment in sheet.comments))
        return replace(whole, images=images, info=info, comments=tuple(dict.fromkeys(told)), unsaved=unsaved)

    @property
    def in_order(self) -> list[Place]:
        """All cells, row by row and grid by grid."""
        return sorted(self.plot.places, key=lambda place: place[::-1])

    def first(self, z: int) -> GenerationResult:
        """The first cell of a grid that has a picture, or else of the whole plot."""
        found = [place for place in self.in_order if place in self.found]
        return self.found[next((place for place in found if place[2] == z), found[0])]

    def text(self, z: int, lines: Sequence[Line]) -> str:
        """The text of a grid: that of its first cell, and what the lines vary."""
        fields = {"Script": "X/Y/Z plot"}
        for line in lines:
            if line.axis is None:
                continue
            fields[f"{line.letter} Type"] = line.axis.label
            fields[f"{line.letter} Values"] = line.text
            if line.seed_list and not self.plot.wished.no_fixed_seeds:
                fields[f"Fixed {line.letter} Values"] = ", ".join(map(str, line.values))
        return with_fields(self.first(z).images[0].infotext, fields)

    def grid(self, z: int) -> Image.Image:
        """The cells of one Z value: a column for each X value, a row for each Y value."""
        columns, rows, _ = self.plot.sizes
        size = picture_of(self.first(z)).size
        cells = [
            picture_of(self.found[place]) if place in self.found else Image.new("RGB", size, MISSING)
            for place in self.in_order
            if place[2] == z
        ]
        grid = make_grid(cells, rows, self.look.background)
        if not self.plot.wished.draw_legend:
            return grid
        x, y, _ = (legends(line) for line in self.plot.lines)
        assert (len(x), len(y)) == (columns, rows)
        return with_legends(grid, x, y, self.plot.wished.margin_size, self.look)

    def over_all(self, grids: Sequence[Image.Image]) -> Image.Image:
        """The grids side by side."""
        whole = make_grid(grids, 1, self.look.background)
        if not self.plot.wished.draw_legend:
            return whole
        return with_legends(whole, legends(self.plot.lines[2]), [[]], 0, self.look)


def picture_of(result: GenerationResult) -> Image.Image:
    """A cell's picture: the grid of its batch where there is one."""
    if result.images[0].is_grid:
        return decoded_picture(result.images[0].data, "The grid of a cell")
    return result.pictures[0]


def legends(line: Line) -> list[list[Legend]]:
    """The words of each value; none for "Nothing"."""
    words = [line.words(index) for index in range(len(line.values))]
    return [[Legend(text)] if text else [] for text in words]
