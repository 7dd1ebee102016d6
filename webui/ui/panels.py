"""The parameters of extensions on a generation form: generated, or laid out by the extension itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from webui.core.choices import Script
from webui.core.params import Params, count_setting, listed_group, nested_group, title_of
from webui.core.values import ParamSpec
from webui.extensions.page import Slot
from webui.services.choices import choices_of
from webui.services.forms import EXTENSIONS, NO_SCRIPT, SCRIPT
from webui.ui.job_panel import JobPanel
from webui.ui.widgets import input_accordion, widget

if TYPE_CHECKING:
    from webui.ui.generation import ParameterColumn

log = logging.getLogger(__name__)


class GroupPanel:
    """One group of parameters on one form, for whoever lays it out.

    form: the name of the form, "txt2img" or "img2img" or that of an extension's own.
    """

    def __init__(self, column: ParameterColumn, group: type[Params], script: Script | None = None) -> None:
        """script: whose group it is, if a script's."""
        self.form = column.tab
        self._script = script
        self.group = group
        self._column = column
        self._specs = {spec.dotted: spec for spec in group.specs()}

    @property
    def settings(self) -> Any:
        """The settings as they are while the page is built."""
        return self._column.settings

    @property
    def easel(self) -> Any:
        """The parts of the program."""
        return self._column.services.host.easel

    @property
    def paths(self) -> tuple[str, ...]:
        """The dotted paths of the group's parameters, items of lists counted: "units.0.weight"."""
        return tuple(self._specs)

    def count(self, name: str) -> int:
        """How many items of the list `name` the page is to have."""
        field = self.group.model_fields[name]
        key = count_setting(field)
        most = next((item.max_length for item in field.metadata if hasattr(item, "max_length")), None)
        wanted = int(self.settings[key]) if key else len(field.default)
        return wanted if most is None else min(wanted, most)

    def elem_id(self, name: str) -> str:
        """An element id that no other panel has."""
        item = name.replace(".", "_")
        return self._script.elem_id(self.form, item) if self._script else f"{self.form}_{self.group.__name__}_{item}"

    def place(self, path: str, **options: Any) -> Component:
        """Put the component of a parameter here. options: passed on to it, `elem_id` among them."""
        spec = self.spec(path)
        offered = self._script.choices_on(self.form, path) if self._script and self._script.choices_on else None
        choices = offered or choices_of(self._column.services, spec) or None
        options = {"choices": choices, "elem_id": self.elem_id(path), **options}
        return self.use(path, widget(spec, **options))

    def use(self, path: str, component: Component) -> Component:
        """Let a component that you made stand for a parameter; its value is the parameter's."""
        self.spec(path)
        self._column.fields[f"{EXTENSIONS}.{self.group.__name__}.{path}"] = component
        return component

    @contextmanager
    def enabling_accordion(self, path: str, label: str, elem_id: str) -> Iterator[None]:
        """A group whose header is the checkbox of a parameter, as that of hires fix is."""
        with input_accordion(label, elem_id) as accordion:
            self.use(path, accordion.enabled)
            yield

    def place_all(self, prefix: str = "") -> None:
        """Put everything here, or everything below a path such as "units.0", as a generated panel does."""
        group: type[Params] = self.group
        for part in filter(None, prefix.split(".")):
            if not part.isdecimal():
                found = nested_group(group.model_fields[part].annotation)
                assert found is not None, f"{group.__name__}.{part} is no group"
                group = found
        self._place_group(group, prefix + "." if prefix else "")

    def placed(self, path: str) -> Component:
        """The component that stands for a parameter of the group already."""
        return self._column.fields[f"{EXTENSIONS}.{self.group.__name__}.{path}"]

    def jobs(self, name: str) -> JobPanel:
        """Where jobs of the panel's own are started, watched and stopped: lay out its buttons and its log, then wire
        it by `submits` and `shows`. name: the beginning of its element ids, after the form's.
        """
        return JobPanel(self._column.services, f"{self.form}_{name}")

    def field(self, path: str) -> Component:
        """The form's component of another parameter, if it stands already: "width", "hires.scale"."""
        return self._column.fields[path]

    def spec(self, path: str) -> ParamSpec:
        """What is known of a parameter. Items beyond those that the list has by default are like its first."""
        known = self._specs.get(path)
        if known is None:
            first = ".".join("0" if part.isdecimal() else part for part in path.split("."))
            known = self._specs[first]
        return known

    def _place_group(self, group: type[Params], prefix: str) -> None:
        for name, field in group.model_fields.items():
            path, inner = prefix + name, nested_group(field.annotation)
            if listed_group(field.annotation) is not None:
                self._place_items(path, title_of(inner or group))
            elif inner is not None and field.default is None:
                with input_accordion(title_of(inner), self.elem_id(path)) as accordion:
                    self._column.fields[f"{EXTENSIONS}.{self.group.__name__}.{path}"] = accordion.enabled
                    self._place_group(inner, path + ".")
            elif inner is not None:
                self._place_group(inner, path + ".")
            elif isinstance(field.json_schema_extra, dict) and "label" in field.json_schema_extra:
                self.place(path)

    def _place_items(self, path: str, title: str) -> None:
        if self.count(path) == 1:
            self.place_all(f"{path}.0")
            return
        with gr.Tabs(elem_id=self.elem_id(path)):
            for index in range(self.count(path)):
                named = {"id": str(index), "elem_id": self.elem_id(f"{path}.{index}"), "render_children": True}
                with gr.Tab(f"{title} {index}", **named):
                    self.place_all(f"{path}.{index}")


def build_scripts(column: ParameterColumn, elem_id: str) -> None:
    """The dropdown "Script" and a panel for each script, of which assets/scripts.js shows the chosen one's."""
    host, tab = column.services.host, column.tab
    scripts = column.services.choices.scripts(tab)
    names = [NO_SCRIPT, *(script.title for script in scripts)]
    chosen = gr.Dropdown(names, value=NO_SCRIPT, label="Script", elem_id=elem_id, interactive=True)
    column.fields[SCRIPT] = chosen
    for script in scripts:
        if script.params is None:
            continue
        panel = GroupPanel(column, script.params, script)
        with gr.Column(elem_id=script.elem_id(tab, "panel"), elem_classes=["script-panel"]) as place:
            try:
                (script.build or GroupPanel.place_all)(panel)
            except Exception as error:
                log.exception("The panel of the script %s failed", script.title)
                place.children.clear()
                host.report(script.title, "could not lay out its panel", error)
    panels = {script.title: script.elem_id(tab, "panel") for script in scripts}
    chosen.change(None, chosen, None, js=f"(title) => window.easel?.chooseScript({json.dumps(panels)}, title)")


def build_panels(column: ParameterColumn, slot: Slot) -> None:
    """What extensions put into a slot. A panel that fails gives way to the generated one, and the page says so."""
    host = column.services.host
    for group in host.params:
        panel = GroupPanel(column, group)
        extension, laid_out = host.panels.get(group, ("", None))
        if laid_out is None and slot == "scripts":
            with gr.Accordion(title_of(group), open=False, elem_id=f"{column.tab}_extension_{group.__name__}"):
                panel.place_all()
        elif laid_out is not None and laid_out.slot == slot:
            with gr.Group(elem_id=f"{column.tab}_panel_{group.__name__}") as place:
                before = dict(column.fields)
                try:
                    laid_out.build(panel)
                except Exception as error:
                    log.exception("The panel of extension %s in %s failed", extension, column.tab)
                    place.children.clear()
                    column.fields.clear()
                    column.fields.update(before)
                    host.report(extension, f"could not lay out its panel in {column.tab}", error)
                    panel.place_all()
