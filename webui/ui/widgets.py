"""From a declared parameter to the component that edits it, and the small pieces all tabs share.

The layout is written by hand; `widget` only knows how to show one parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import gradio as gr
from gradio.components import Component

from webui.core.params import Params
from webui.core.values import ParamSpec
from webui.ui import html

QUIET: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
"""How the page's own events run: no spinner, none waits for another, not listed in Gradio's API."""

NAMES = "names"
"""The class of a list of files, or of other names that are not translated (assets/localization.js)."""

ChangingList: TypeAlias = tuple[Component, ParamSpec, tuple[str, ...]]
"""A list whose choices may be others when it is shown: its component, its declaration, and what stands before them."""


def specs_by_path(group: type[Params]) -> dict[str, ParamSpec]:
    """Every parameter of a group by its dotted path, "hires.scale" for one in a nested group."""
    return {spec.dotted: spec for spec in group.specs()}


def widget(spec: ParamSpec, elem_id: str, *, choices: Sequence[str] | None = None, **options: Any) -> Component:
    """The component for one parameter or setting, of the kind it is shown as.

    choices: what to offer where the declaration names a changing list. options: passed on to the component.
    Whole numbers that may need more than 53 bits are typed as text: a number of JavaScript's can't hold them.
    """
    common: dict[str, Any] = {"label": spec.label, "elem_id": elem_id, "interactive": True, **options}
    kind = spec.shown_as
    if kind in ("picture", "pictures"):
        return _picture(spec, common)
    common.setdefault("info", spec.help)
    if choices is None:
        choices = (
            spec.choices if isinstance(spec.choices, tuple) else spec.choices() if callable(spec.choices) else None
        )
    value = common.pop("value", list(spec.default) if spec.type is tuple else spec.default)
    if choices is not None or kind in ("dropdown", "multiselect"):
        return _choice(spec, kind, list(choices or ()), value, common)
    if kind == "slider" and spec.slider is not None:
        bounds = dict(zip(("minimum", "maximum", "step"), spec.slider, strict=True))
        return gr.Slider(value=value, **{"buttons": [], **bounds, **common})
    if kind == "checkbox":
        return gr.Checkbox(value=bool(value), **common)
    if spec.is_long:
        return gr.Textbox(value=str(value), max_lines=1, **common)
    if kind == "number":
        return gr.Number(value=value, precision=0 if spec.type is int else None, **common)
    return gr.ColorPicker(value=value, **common) if kind == "color" else gr.Textbox(value=value, **common)


def _choice(spec: ParamSpec, kind: str, choices: list[str], value: Any, common: dict[str, Any]) -> Component:
    if kind == "radio":
        return gr.Radio(choices, value=value, **common)
    if kind == "checkboxgroup":
        return gr.CheckboxGroup(choices, value=value, **common)
    if not isinstance(spec.choices, tuple):  # the list may have changed since
        common.setdefault("allow_custom_value", callable(spec.choices))
        common["elem_classes"] = [*common.get("elem_classes", ()), NAMES]
    return gr.Dropdown(choices=choices, value=value, multiselect=spec.type is tuple, **common)


def _picture(spec: ParamSpec, common: dict[str, Any]) -> Component:
    """Its value is the path of a file as it was loaded, with its texts."""
    if spec.shown_as == "pictures":
        return gr.Gallery(type="filepath", columns=4, **common)
    common = {"sources": ["upload", "clipboard"], "height": 240, **common}
    return gr.Image(type="filepath", image_mode=None, **common)


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
