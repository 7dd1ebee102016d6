"""The page's Blocks, which tell who may see the files that events return, and of themselves what the page reads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Set
from typing import Any

import gradio as gr

from webui.ui.visitors.visitors import Visitors

FOR_CLIENTS = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs", "skip_api")
"""What Gradio tells of each component for clients that call its events: a third of the page."""

USUAL = {
    "visible": True,
    "_selectable": False,
    "elem_classes": [],
    **dict.fromkeys(("show_progress", "equal_height", "submit_btn", "stop_btn", "rtl", "autofocus"), False),
}
"""What the page takes a component's property to be when it isn't told."""

BOXED = ("slider", "checkbox", "radio")
FIELDS = (*BOXED, "number", "dropdown", "textbox")
USUAL_OF: Mapping[str, Mapping[str, Any]] = {
    "row": {"variant": "default"},
    "column": {"variant": "default"},
    "form": {"min_width": 0},
    "dropdown": {"allow_custom_value": False, "multiselect": False},
    "image": {"streamable": False, "streaming": False, "container": True},
    "button": {"variant": "secondary", "link_target": "_self"},
    "html": {
        "html_template": "${value}",
        "css_template": "",
        "apply_default_css": True,
        "component_class_name": "HTML",
        **dict.fromkeys(("autoscroll", "likeable", "_undoable", "_retryable", "streamable"), False),
    },
}
"""The same of one kind of component."""

FOR_PYTHON = {
    "image": ("type", "format", "watermark"),
    **dict.fromkeys(("dropdown", "radio", "checkboxgroup", "file", "gallery"), ("type",)),
}
"""What says how a kind of component's value is handed to a function of the server, and nothing to the page."""

CLICKABLE = inspect.signature(gr.HTML).parameters["js_on_load"].default
"""The script by which HTML tells of clicks, for nothing where no event waits for them."""

UNREAD = (
    *("api_description", "batch", "collects_event_data", "max_batch_size", "scroll_to_output", "stream_every"),
    *("connection", "types", "api_visibility"),
)
"""What only clients read of an event."""
OF_PARTS = ("rendered_in", "render_id", "trigger_after")
"""What is null in an event of a page that isn't rendered in parts, and that follows no other."""
OPTIONAL = (
    *("component_prop_inputs", "event_specific_args", "js_implementation", "show_progress_on", "time_limit"),
    *("trigger_only_on_failure", "trigger_only_on_success"),
)
"""What the page reads of an event as if it weren't there when it is empty."""


class PageBlocks(gr.Blocks):
    visitors: Visitors | None = None
    """Who is told of the files that events return, once the page is mounted."""

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        result = await super().process_api(*args, **options)
        request = options.get("request")
        if self.visitors is not None and request is not None:
            self.visitors.hand_out(result["data"], request[0] if isinstance(request, list) else request)
        return result

    def get_config_file(self) -> Any:
        """The page's description, without what the page doesn't read: it is a third shorter so.

        What only clients read is left to components of events that they may call. The class id leads the page to a
        component's own code: custom ones need theirs, Gradio's are found by their type. Keys are for pages that are
        rendered in parts.
        """
        config = super().get_config_file()
        public = [event for event in config["dependencies"] if event["api_visibility"] != "private"]
        called = {number for event in public for number in (*event["inputs"], *event["outputs"])}
        clicked = {target for event in config["dependencies"] for target, what in event["targets"] if what == "click"}
        for component in config["components"]:
            unread = set() if component["id"] in called else {*FOR_CLIENTS}
            if type(self.blocks[component["id"]]).__module__.startswith("gradio."):
                unread.add("component_class_id")
            if component["key"] is None:
                unread.add("key")
                component["props"].pop("preserved_by_key", None)
            for name in unread:
                component.pop(name, None)
            self._forget_usual(component, component["id"] in called, clicked)
        for event in config["dependencies"]:
            for name in OPTIONAL:
                if not event[name]:
                    del event[name]
            for name in OF_PARTS:
                if event[name] is None:
                    del event[name]
            if event not in public:
                event["api_name"] = False  # what is private has none
                for name in UNREAD:
                    del event[name]
        return config

    def _forget_usual(self, component: dict[str, Any], is_called: bool, clicked: Set[int]) -> None:
        kind, properties = component["type"], component["props"]
        usual_here: dict[str, Any] = {**USUAL, **USUAL_OF.get(kind, {})}
        if kind in FIELDS:
            usual_here["show_label"] = True
        if kind in BOXED:
            usual_here["container"] = True
        if kind in FIELDS[1:]:  # a slider that isn't told of none has a button
            usual_here["buttons"] = []
        if kind == "html" and component["id"] not in clicked:
            usual_here["js_on_load"] = CLICKABLE
        for name, usual in usual_here.items():
            if properties.get(name) == usual and type(properties[name]) is type(usual):
                del properties[name]
        own_code = not type(self.blocks[component["id"]]).__module__.startswith("gradio.")
        if not (is_called or own_code):
            for name in FOR_PYTHON.get(kind, ()):
                properties.pop(name, None)
            if properties.get("name") == kind:
                del properties["name"]  # its type is told already
