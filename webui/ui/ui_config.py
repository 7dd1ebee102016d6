"""ui-config.json: the user's own defaults and ranges of the page, under A1111's keys ("txt2img/Width/value")."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.errors import NotSaved
from webui.core.files import write_atomic
from webui.core.settings import read_object

log = logging.getLogger(__name__)

SCRIPTS: Mapping[str, str] = {
    **dict.fromkeys(("sampler", "scheduler", "steps"), "sampler.py"),
    **dict.fromkeys(("seed", "variation"), "seed.py"),
    "refiner": "refiner.py",
}
"""Beginning of a parameter's path -> A1111's script that has it, as its newer files say."""

SEEDS = ("seed", "variation.seed")
"""Whole numbers in the file, text on the page."""

USUAL_SIZE = 512
USUAL_CFG_SCALE = 7.0
"""A1111's defaults, which say nothing about what the user wants."""


class UiConfig:
    """What the file says; nothing when it isn't there. A broken file is told in the log and left as it is."""

    def __init__(self, path: Path):
        self._path = path
        self._found: Mapping[str, Any] = {}
        try:
            self._found = read_object(path)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warning("%s can't be read (%s); the page has its own defaults.", path, error)

    def get(self, tab: str, path: str, label: str, field: str) -> Any:
        """What the file says of one parameter, None for nothing.

        path: dotted, of the parameter. field: "value", "minimum", "maximum", "step" or "visible".
        """
        found = self._found.get(self.key(tab, path, label, field))
        if found is not None or path == "refiner.checkpoint":  # hires fix has one of that label
            return found
        return self._found.get(f"{tab}/{label}/{field}")

    def key(self, tab: str, path: str, label: str, field: str) -> str:
        """Under which the file has it, as A1111's newer files say it. Arguments as of `get`."""
        script = SCRIPTS.get(path.partition(".")[0])
        return f"customscript/{script}/{tab}/{label}/{field}" if script else f"{tab}/{label}/{field}"

    def save(self, values: Mapping[str, Any], without: Collection[str]) -> None:
        """Write values under their keys and take others out; what else the file holds stays.

        Raises: NotSaved when the file can't be written, or can't be read and so would be lost.
        """
        try:
            found = read_object(self._path) if self._path.exists() else {}
            kept = {key: value for key, value in found.items() if key not in without}
            write_atomic(self._path, json.dumps({**kept, **values}, indent=4, ensure_ascii=False).encode())
        except (OSError, ValueError) as error:
            raise NotSaved(f"{self._path.name} can't be written anew: {error}.") from error
        self._found = {**kept, **values}

    def apply(self, tab: str, fields: Mapping[str, Component]) -> None:
        """Give components, not shown yet, the file's defaults and ranges; what doesn't fit is passed over."""
        for path, component in fields.items():
            label = str(getattr(component, "label", None) or "")
            for field in ("minimum", "maximum", "step"):
                wished = self.get(tab, path, label, field)
                if isinstance(component, gr.Slider | gr.Number) and _is_number(wished):
                    setattr(component, field, wished)
            value = self.get(tab, path, label, "value")
            if path in SEEDS and isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if value is not None and fits(component, value):
                component.value = tuple(value) if isinstance(component.value, tuple) else value
            if self.get(tab, path, label, "visible") is False and component.visible is True:
                component.visible = "hidden"

    def size(self, tab: str, native: int) -> tuple[int, int]:
        """Width and height of a fresh page. native: of the checkpoint, where the user wants no other."""
        found = [self.get(tab, side.lower(), side, "value") for side in ("Width", "Height")]
        width, height = (
            int(side) if _is_number(side) and side != USUAL_SIZE and side > 0 and side % 8 == 0 else native
            for side in found
        )
        return width, height

    def cfg_scale(self, tab: str, native: float) -> float:
        """Of a fresh page. native: what suits the checkpoint, where the user wants no other."""
        found = self.get(tab, "cfg_scale", "CFG Scale", "value")
        return float(found) if _is_number(found) and found != USUAL_CFG_SCALE and found > 0 else native


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def fits(component: Component, value: Any) -> bool:
    """Whether the component could have this value."""
    if isinstance(component, gr.Checkbox):
        return isinstance(value, bool)
    if isinstance(component, gr.Slider | gr.Number):
        low, high = component.minimum, component.maximum
        return _is_number(value) and (low is None or value >= low) and (high is None or value <= high)
    if isinstance(component, gr.Dropdown | gr.Radio):
        known = {choice[1] for choice in component.choices}
        if isinstance(value, list):
            return bool(getattr(component, "multiselect", False)) and all(item in known for item in value)
        return value in known
    return isinstance(component, gr.Textbox) and isinstance(value, str)
