"""From a declared parameter to the component that edits it, and the small pieces all tabs share.

The layout is written by hand; `widget` only knows how to show one parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr
from gradio.components import Component

from webui.core.params import Params, ParamSpec
from webui.ui import html

QUIET: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
"""How the page's own events run: no spinner, none waits for another, not listed in Gradio's API."""


def specs_by_path(group: type[Params]) -> dict[str, ParamSpec]:
    """Every parameter of a group by its dotted path, "hires.scale" for one in a nested group."""
    return {spec.dotted: spec for spec in group.specs()}


def widget(spec: ParamSpec, elem_id: str, *, choices: Sequence[str] | None = None, **options: Any) -> Component:
    """The component for one parameter: a slider where it has a range, a list where it has choices, and so on.

    choices: what to offer where the declaration names a changing list. options: passed on to the component.
    Whole numbers that may need more than 53 bits are typed as text: a number of JavaScript's can't hold them.
    """
    common: dict[str, Any] = {"label": spec.label, "elem_id": elem_id, "info": spec.help}
    common |= {"interactive": True, **options}
    if choices is None and isinstance(spec.choices, tuple):
        choices = spec.choices
    if choices is not None:
        several = isinstance(spec.default, tuple)
        value = common.pop("value", list(spec.default) if several else spec.default)
        return gr.Dropdown(choices=list(choices), value=value, multiselect=several, **common)
    value = common.pop("value", spec.default)
    kinds = {spec.annotation, *get_args(spec.annotation)}
    if spec.slider is not None:
        low, high, step = spec.slider
        return gr.Slider(minimum=low, maximum=high, step=step, value=value, buttons=[], **common)
    if bool in kinds:
        return gr.Checkbox(value=bool(value), **common)
    if spec.is_long:
        return gr.Textbox(value=str(value), max_lines=1, **common)
    if int in kinds or float in kinds:
        return gr.Number(value=value, precision=0 if int in kinds else None, **common)
    return gr.Textbox(value=value, **common)


def show_problem(error: object) -> str:
    """Tell an error in a notice, wherever the page is scrolled to; returns it for the log, where it stays."""
    gr.Warning(html.escape(str(error)))
    return html.problem(error)


def tool(symbol: str, elem_id: str, **options: Any) -> gr.Button:
    """A small square button; its tooltip stands in assets/tooltips.js."""
    return gr.Button(symbol, elem_id=elem_id, elem_classes=["tool"], scale=0, min_width=0, **options)


@dataclass(frozen=True)
class InputAccordion:
    """enabled: the checkbox in the header. extra: a place in the header for a line of text."""

    enabled: gr.Checkbox
    extra: gr.HTML


@contextmanager
def input_accordion(
    label: str, elem_id: str, extra_id: str | None = None, *, value: bool = False
) -> Iterator[InputAccordion]:
    """A group that a checkbox in its header enables and opens; the arrow opens it without enabling.

    What is open follows from the checkbox by CSS alone (assets/style.css), so that pasting opens it too.
    """
    with gr.Column(elem_id=elem_id, elem_classes=["input-accordion"], min_width=240):
        with gr.Row(elem_classes=["input-accordion-head"]):
            enabled = gr.Checkbox(
                value, label=label, elem_id=f"{elem_id}-checkbox", container=False, min_width=80, interactive=True
            )
            extra = gr.HTML(elem_id=extra_id or f"{elem_id}-extra", elem_classes=["input-accordion-extra"])
            gr.Button("◀", elem_classes=["input-accordion-arrow"], scale=0, min_width=0)
        with gr.Column(elem_classes=["input-accordion-body"]):
            yield InputAccordion(enabled, extra)
