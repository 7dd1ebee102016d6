"""The page "Defaults" of the Settings tab: what the form has now becomes what a fresh page has, kept in ui-config.json.

assets/settings_pages.js draws it; hidden buttons ask here, since only Gradio knows what the form holds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.errors import Refused, WebuiError
from webui.services.services import Services
from webui.ui.ui_config import UiConfig, fits
from webui.ui.widgets import QUIET

KEPT = (gr.Checkbox, gr.Slider, gr.Number, gr.Dropdown, gr.Radio, gr.Textbox)
"""Components whose value ui-config.json may hold."""


@dataclass(frozen=True)
class Field:
    """One component of a form. usual: its value on a fresh page without ui-config.json."""

    tab: str
    path: str
    key: str
    component: Component
    usual: Any


class Defaults:
    def __init__(self, services: Services, config: UiConfig, forms: Mapping[str, Mapping[str, Component]]) -> None:
        """forms: the fields of each tab by their paths, as they are before `config` is applied."""
        self.services = services
        self.config = config
        found = list(_fields(config, forms))
        count = Counter(field.key for field in found)
        self.fields = [field for field in found if count[field.key] == 1]  # else nobody could tell which is meant

    def build(self, changed: Callable[[], None], following: Callable[[], Mapping[Component, Any]]) -> None:
        """The hidden parts.

        changed: called when a fresh page has other values than before. following: of components that begin with what
        suits the checkpoint, their values on a fresh page now.
        """
        self._changed, self._following = changed, following
        told = gr.Textbox(elem_id="easel_defaults", visible="hidden")
        components: set[Component] = {field.component for field in self.fields}
        acts: Sequence[tuple[str, Any, Any]] = (
            ("view", self.view, components),
            ("apply", self.apply, told),  # what `view` has said: the form is named in one event, since names take room
            ("reset", self.reset, None),
        )
        for name, act, inputs in acts:
            button = gr.Button(f"Defaults: {name}", elem_id=f"easel_defaults_{name}", visible="hidden")
            asked = button.click(act, inputs, told, **QUIET)
            asked.then(None, told, None, js="(json) => easel.defaultsTold(json)")

    def view(self, values: Mapping[Component, Any]) -> str:
        """The changes as JSON, for the page."""
        return _told("", self.changes(values))

    def apply(self, viewed: str) -> str:
        """Save the changes that `view` has told; a fresh page begins with them."""
        by_key = {field.key: field.component for field in self.fields}
        wished = {change["key"]: change["now"] for change in json.loads(viewed)["changes"]}
        kept = {key: now for key, now in wished.items() if key in by_key and fits(by_key[key], now)}
        try:
            self._check_frozen()
            self.config.save(kept, ())
        except WebuiError as error:
            return _told(str(error), [])
        for key, now in kept.items():
            by_key[key].value = now
        self._changed()
        return _told("The defaults are saved.", [])

    def reset(self) -> str:
        """Take all of the form's defaults out of ui-config.json."""
        try:
            self._check_frozen()
            self.config.save({}, {field.key for field in self.fields})
        except WebuiError as error:
            return _told(str(error), [])
        for field in self.fields:
            field.component.value = field.usual
        self._changed()
        return _told("A fresh page has Easel's own defaults again.", [])

    def changes(self, values: Mapping[Component, Any]) -> list[tuple[str, Any, Any]]:
        """(key in ui-config.json, value on a fresh page, value now) of what differs."""
        found, following = [], self._following()
        for field in self.fields:
            usual = following.get(field.component, field.component.value)
            before, now = (_plain(field.component, value) for value in (usual, values[field.component]))
            if now != before:
                found.append((field.key, before, now))
        return found

    def _check_frozen(self) -> None:
        if self.services.flags.freeze_settings:
            raise Refused("The page's defaults are frozen by the command line (--freeze-settings).")


def _fields(config: UiConfig, forms: Mapping[str, Mapping[str, Component]]) -> Iterator[Field]:
    for tab, form in forms.items():
        for path, component in form.items():
            label = str(getattr(component, "label", None) or "")
            if label and isinstance(component, KEPT):
                yield Field(tab, path, config.key(tab, path, label, "value"), component, component.value)


def _plain(component: Component, value: Any) -> Any:
    """As JSON has it: lists for tuples; an empty box holds the empty text."""
    if value is None and isinstance(component, gr.Textbox):
        return ""
    return list(value) if isinstance(value, tuple) else value


def _told(sentence: str, changes: Sequence[tuple[str, Any, Any]]) -> str:
    rows = [{"key": key, "before": before, "now": now} for key, before, now in changes]
    return json.dumps({"sentence": sentence, "changes": rows})
