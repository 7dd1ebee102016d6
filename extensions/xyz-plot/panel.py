"""The script on the page: choosing an axis asks the server for what its values can be."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components import Component

from .plot import axes_on, offered_on
from .values import text_of, texts_in

QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
"""How the panel's events run: no spinner, at once, not listed in Gradio's API."""
LETTERS = "xyz"
FILL = "📒"


def build(panel: Any) -> None:
    lines = {letter: AxisLine(panel, letter) for letter in LETTERS}
    with gr.Row(elem_id="axis_options"):
        with gr.Column():
            panel.place("draw_legend")
            panel.place("no_fixed_seeds")
            with gr.Row():
                for letter in LETTERS:
                    panel.place(f"vary_seeds_{letter}", min_width=80)
        with gr.Column():
            panel.place("include_lone_images")
            panel.place("include_sub_grids")
            as_texts = panel.place("csv_mode")
        with gr.Column():
            panel.place("margin_size")
    for line in lines.values():
        line.wire(as_texts)
    with gr.Row(elem_id="swap_axes"):
        for first, second in ("xy", "yz", "xz"):
            label = f"Swap {first.upper()}/{second.upper()} axes"
            button = gr.Button(label, elem_id=f"{first}{second}_grid_swap_axes_button")
            swap(button, lines[first], lines[second], as_texts)


class AxisLine:
    """One axis: its type, its values as a text or as a list of choices, and the button that takes all of them."""

    def __init__(self, panel: Any, letter: str) -> None:
        self.choices, self.tab = panel.easel.choices, panel.form
        name = f"{letter}_values_dropdown"
        with gr.Row():
            offered = list(offered_on(self.choices, self.tab))
            self.type = panel.place(f"{letter}_type", choices=offered, min_width=160)
            self.text = panel.place(f"{letter}_values", lines=1, max_lines=20, min_width=160)
            self.listed = panel.use(
                name,
                gr.Dropdown(
                    [],
                    value=[],
                    label=f"{letter.upper()} values",
                    multiselect=True,
                    allow_custom_value=True,
                    interactive=True,
                    visible="hidden",
                    min_width=160,
                    elem_id=panel.elem_id(name),
                    elem_classes=["names"],
                ),
            )
            self.fill = gr.Button(
                FILL,
                elem_id=f"xyz_grid_fill_{letter}_tool_button",
                elem_classes=["tool"],
                scale=0,
                min_width=0,
                visible="hidden",
            )

    @property
    def parts(self) -> list[Component]:
        return [self.type, self.text, self.listed]

    @property
    def shown(self) -> list[Component]:
        """What `updates` returns anew."""
        return [self.text, self.listed, self.fill]

    def wire(self, as_texts: Component) -> None:
        gr.on([self.type.change, as_texts.change], self.updates, [*self.parts, as_texts], self.shown, **QUIET)
        self.fill.click(self.filled, [self.type, as_texts], [self.text, self.listed], **QUIET)

    def offered(self, label: str) -> tuple[str, ...] | None:
        """What the axis of that name offers, None if it takes what is written."""
        axis = next((axis for axis in axes_on(self.choices, self.tab) if axis.label == label), None)
        return tuple(axis.choices()) if axis is not None and axis.choices is not None else None

    def updates(self, label: str, text: str, listed: list[str] | None, as_texts: bool) -> tuple[Any, ...]:
        """The values where they belong: in the list of an axis that has choices, unless texts are wanted.

        What needn't be changed isn't: while several components change at once, the page may tell old values.
        """
        offered = self.offered(label)
        in_list = offered is not None and not as_texts
        if in_list:
            known = [value for value in texts_in(text) if value in (offered or ())]
            texts, lists = {"value": ""}, {"value": known} if known and not listed else {}
        else:
            texts = {"value": text_of(listed)} if offered is not None and listed and not text else {}
            lists = {"value": []}
        return (
            gr.update(visible="hidden" if in_list else True, **texts),
            gr.update(choices=list(offered or ()), visible=True if in_list else "hidden", **lists),
            gr.update(visible="hidden" if offered is None else True),
        )

    def filled(self, label: str, as_texts: bool) -> tuple[Any, Any]:
        """All that the axis offers."""
        offered = self.offered(label)
        if offered is None:
            return gr.skip(), gr.skip()
        return (text_of(offered), gr.skip()) if as_texts else (gr.skip(), gr.Dropdown(value=list(offered)))


def swap(button: gr.Button, first: AxisLine, second: AxisLine, as_texts: Component) -> None:
    def swapped(*values: Any) -> tuple[Any, ...]:
        one, other, switch = values[:3], values[3:6], values[6]
        return *moved(first, other, switch), *moved(second, one, switch)

    def moved(line: AxisLine, values: tuple[Any, ...], switch: bool) -> tuple[Any, ...]:
        """The line with the other's type and values."""
        label, text, listed = values
        box, dropdown, fill = line.updates(label, text, listed, switch)
        return label, {"value": text, **box}, {"value": list(listed or ()), **dropdown}, fill

    inputs = [*first.parts, *second.parts, as_texts]
    button.click(swapped, inputs, [first.type, *first.shown, second.type, *second.shown], **QUIET)
