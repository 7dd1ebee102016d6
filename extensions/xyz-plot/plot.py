"""What a plot varies: three lines of values, and the request of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

from webui.extensions.api import (
    MAX_PICTURES,
    Axis,
    Choices,
    GenerationRequest,
    InvalidRequest,
    LegendLook,
    Params,
    WebuiError,
    drawn,
)

from .axes import AXES, SEED, VARIATION_SEED
from .values import read_values, text_of, texts_in

NOTHING = "Nothing"
SEEDS = {SEED: "all_seeds", VARIATION_SEED: "all_subseeds"}
"""Axes whose value of -1 is drawn, and where a result tells what it was."""
Place = tuple[int, int, int]


def axes_on(choices: Choices, tab: str) -> list[Axis]:
    """The axes of a tab: ours in A1111's order, then those of extensions."""
    own = list(AXES)
    axes = [axis for axis in choices.all(Axis) if tab in axis.tabs]
    return sorted(axes, key=lambda axis: own.index(axis.label) if axis.label in AXES else len(own))


def offered_on(choices: Choices, tab: str) -> tuple[str, ...]:
    """What the type of an axis can be on a tab, numbered as in A1111."""
    return (NOTHING, *(axis.label for axis in axes_on(choices, tab)))


def find_axis(choices: Choices, tab: str, name: str | int, letter: str) -> Axis | None:
    """The axis of a name or number, None for "Nothing". Raises: InvalidRequest."""
    offered = offered_on(choices, tab)
    if isinstance(name, int):
        if not 0 <= name < len(offered):
            raise InvalidRequest(f"{letter} type can be a number from 0 to {len(offered) - 1}, got {name}.")
        name = offered[name]
    if name == NOTHING:
        return None
    found = next((axis for axis in axes_on(choices, tab) if axis.label.lower() == name.strip().lower()), None)
    if found is None:
        raise InvalidRequest(f'No axis of {tab} is called "{name[:100]}"; script-info lists what {letter} type can be.')
    return found


@dataclass(frozen=True)
class Line:
    """One axis of a plot. axis: None for the one cell of "Nothing". text: its values as the picture's text tells them.

    values: as the axis' `apply` takes them.
    """

    letter: str
    axis: Axis | None
    text: str = ""
    values: tuple[Any, ...] = (None,)

    @classmethod
    def of(
        cls, letter: str, axis: Axis | None, text: str, listed: Sequence[str] | None, *, as_texts: bool = False
    ) -> Line:
        """text, listed: its values, of which an axis that has choices prefers the list, unless `as_texts`.

        Raises: InvalidRequest for values that can't be read, or none.
        """
        if axis is None:
            return cls(letter, None)
        is_listed = axis.choices is not None and not as_texts
        if listed and (is_listed or not text.strip()):
            text = text_of(listed)
        try:
            values = read_values(texts_in(text), axis.type)
            values = list(axis.prepare(values)) if axis.prepare else values
        except WebuiError as error:
            raise InvalidRequest(f"{letter} values of {axis.label}: {error}") from error
        if not values:
            raise InvalidRequest(f'{letter} values of {axis.label} are empty; give some, or choose "{NOTHING}".')
        return cls(letter, axis, text, tuple(values))

    @property
    def cost(self) -> float:
        return self.axis.cost if self.axis else 0.0

    @property
    def seed_list(self) -> str | None:
        """Where results tell the seeds that this line varies, None if it varies something else."""
        return SEEDS.get(self.axis.label) if self.axis else None

    def applied(self, request: GenerationRequest, index: int) -> GenerationRequest:
        """Raises: InvalidRequest naming axis and value."""
        if self.axis is None:
            return request
        try:
            return self.axis.apply(request, self.values[index])
        except WebuiError as error:
            said = self.words(index).removeprefix(f"{self.axis.label}: ")
            raise InvalidRequest(f'{self.letter} values of {self.axis.label}, "{said[:100]}": {error}') from error

    def words(self, index: int) -> str:
        """What the legend says of a value, "" of "Nothing"."""
        if self.axis is None:
            return ""
        value = self.values[index]
        if self.axis.words:
            return self.axis.words(value)
        return f"{self.axis.label}: {round(value, 8) if isinstance(value, float) else value}"


@dataclass(frozen=True)
class Plot:
    """wished: the script's parameters. request: what the cells have in common.

    variation_seed: of the cells with a variation whose seed nobody gives.
    """

    wished: Any
    request: GenerationRequest
    lines: tuple[Line, Line, Line]
    variation_seed: int = -1

    @classmethod
    def of(cls, choices: Choices, group: type[Params], request: GenerationRequest, settings: Any) -> Plot:
        """Raises: InvalidRequest."""
        wished = request.extension(group)
        others = {name: values for name, values in request.extensions.items() if name != group.__name__}
        request = request.replace(extensions=others)
        if not settings["return_grid"] and request.batch_size > 1:
            sentence = "Each cell has one batch's first picture, as grids of batches aren't shown by setting."
            request = request.replace(batch_size=1, remarks=(*request.remarks, sentence))
        given = {
            "X": (wished.x_type, wished.x_values, wished.x_values_dropdown),
            "Y": (wished.y_type, wished.y_values, wished.y_values_dropdown),
            "Z": (wished.z_type, wished.z_values, wished.z_values_dropdown),
        }
        axes = {letter: find_axis(choices, request.mode, name, letter) for letter, (name, _, _) in given.items()}
        x, y, z = (
            Line.of(letter, axes[letter], text, listed, as_texts=wished.csv_mode)
            for letter, (_, text, listed) in given.items()
        )
        return cls(wished, request, (x, y, z))

    @property
    def sizes(self) -> Place:
        x, y, z = (len(line.values) for line in self.lines)
        return x, y, z

    @property
    def count(self) -> int:
        x, y, z = self.sizes
        return x * y * z

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The cells by their numbers on X, Y and Z, in the order to be made: the dearest axis changes least often."""
        order = sorted((2, 1, 0), key=lambda number: -self.lines[number].cost)
        cells = product(*(range(self.sizes[number]) for number in order))
        found = (dict(zip(order, cell, strict=True)) for cell in cells)
        return tuple((cell[0], cell[1], cell[2]) for cell in found)

    def require_room(self, settings: Any) -> None:
        """Raises: InvalidRequest for more pictures than can be made or than a grid has room for, or no font."""
        LegendLook.of(settings)
        if self.count > MAX_PICTURES:
            raise InvalidRequest(f"The plot would have {self.count} cells; it can have up to {MAX_PICTURES}.")
        widest = max((self.sized(place) for place in self.places), key=lambda size: size[0] * size[1])
        megapixels = round(self.count * widest[0] * widest[1] / 1_000_000)
        most = settings["img_max_size_mp"]
        if megapixels >= most:
            raise InvalidRequest(
                f"The grid would have {megapixels} megapixels; {most:g} are too many already (setting "
                "img_max_size_mp). Take fewer values, or smaller pictures."
            )

    def sized(self, place: Place) -> tuple[int, int]:
        """Width and height of a cell's picture."""
        request = self.request
        for line, index in zip(self.lines, place, strict=True):
            if line.axis is not None and line.axis.label == "Size":
                request = line.applied(request, index)
        return request.width, request.height

    def with_drawn_seeds(self) -> Plot:
        """The plot whose seeds of -1 are drawn, once for all cells, unless they are to be kept."""
        if self.wished.no_fixed_seeds:
            return self
        lines = [
            replace(line, values=tuple(map(drawn, line.values))) if line.seed_list else line for line in self.lines
        ]
        request = self.request.replace(seed=drawn(self.request.seed))
        return replace(self, request=request, lines=tuple(lines), variation_seed=drawn(-1))

    def offset(self, place: Place) -> int:
        """What a cell's seed is raised by."""
        wished, raised, step = self.wished, 0, 1
        varied = wished.vary_seeds_x, wished.vary_seeds_y, wished.vary_seeds_z
        for index, size, varies in zip(place, self.sizes, varied, strict=True):
            if varies:
                raised += index * step
                step *= size
        return raised

    def cell(self, place: Place) -> GenerationRequest:
        """Raises: InvalidRequest naming axis and value."""
        request = self.request
        for line, index in zip(self.lines, place, strict=True):
            request = line.applied(request, index)
        variation, offset = request.variation, self.offset(place)
        if variation.strength and variation.seed == -1:
            request = request.replace(variation=variation.replace(seed=self.variation_seed))
        return request.replace(seed=request.seed + offset) if offset and request.seed != -1 else request
