"""The script X/Y/Z plot: pictures of every combination of the values of up to three parameters, laid out as grids."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import field_validator

from webui.extensions.api import Params, Script, hookimpl, param

from .axes import own_axes
from .plot import NOTHING, Plot, offered_on
from .sheets import combine
from .values import texts_in

TITLE = "X/Y/Z plot"
MOST_TEXT = 200_000
FIXED = tuple(f"Fixed {letter} Values" for letter in "XYZ")
"""Keys of the seeds that were drawn for values of -1."""


class XYZPlot(Params, title=TITLE):
    """Which parameter each axis varies, its values, and what is shown.

    x_type, ...: an axis's name; its number in the tab's list from clients of the API.
    x_values, x_values_dropdown, ...: as a text and as a list; an axis takes what it is made for, else the other one.
    """

    x_type: str | int = param("Seed", label="X type", infotext="X Type")
    x_values: str = param("", label="X values", infotext="X Values", max_length=MOST_TEXT)
    x_values_dropdown: tuple[str, ...] | None = param(None, label="X values")
    y_type: str | int = param("Nothing", label="Y type", infotext="Y Type")
    y_values: str = param("", label="Y values", infotext="Y Values", max_length=MOST_TEXT)
    y_values_dropdown: tuple[str, ...] | None = param(None, label="Y values")
    z_type: str | int = param("Nothing", label="Z type", infotext="Z Type")
    z_values: str = param("", label="Z values", infotext="Z Values", max_length=MOST_TEXT)
    z_values_dropdown: tuple[str, ...] | None = param(None, label="Z values")
    draw_legend: bool = param(True, label="Draw legend")
    include_lone_images: bool = param(False, label="Include Sub Images")
    include_sub_grids: bool = param(False, label="Include Sub Grids")
    no_fixed_seeds: bool = param(False, label="Keep -1 for seeds")
    vary_seeds_x: bool = param(False, label="Vary seeds for X")
    vary_seeds_y: bool = param(False, label="Vary seeds for Y")
    vary_seeds_z: bool = param(False, label="Vary seeds for Z")
    margin_size: int = param(0, label="Grid margins (px)", ge=0, le=500, step=2)
    csv_mode: bool = param(False, label="Use text inputs instead of dropdowns")

    @field_validator("x_values_dropdown", "y_values_dropdown", "z_values_dropdown", mode="before")
    @classmethod
    def _as_texts(cls, values: Any) -> Any:
        """A client may give numbers as such."""
        return tuple(map(str, values)) if isinstance(values, list | tuple) else values or None

    @classmethod
    def from_infotext(cls, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a grid's text tells: all three axes, each with its values as a text and as a list."""
        found = dict(super().from_infotext(fields))
        for letter in "xyz" if found else "":
            found.setdefault(f"{letter}_type", NOTHING)
            text = found.setdefault(f"{letter}_values", "")
            found[f"{letter}_values_dropdown"] = tuple(texts_in(text))
        return found

    @classmethod
    def reads_key(cls, key: str) -> bool:
        """Those that tell of the plot, too, and change nothing when they are read again."""
        return super().reads_key(key) or key == "Script" or key in FIXED


@hookimpl
def register_choices(choices):
    choices.add(
        Script(
            TITLE,
            expand=partial(expand, choices),
            combine=partial(combine, choices, XYZPlot),
            params=XYZPlot,
            choices_on=partial(choices_on, choices),
            build=build,
        )
    )


@hookimpl
def started(easel):
    easel.choices.add(*own_axes(easel))


def choices_on(choices, tab, name):
    return offered_on(choices, tab) if name.endswith("_type") else None


def build(panel):
    from .panel import build

    build(panel)


def expand(choices, request, settings):
    """A request for every cell, those of the dearest axis' values apart. Raises: InvalidRequest."""
    plot = Plot.of(choices, XYZPlot, request, settings)
    plot.require_room(settings)
    plot = plot.with_drawn_seeds()
    return [plot.cell(place) for place in plot.places]
