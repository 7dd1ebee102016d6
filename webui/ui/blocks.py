"""The page's Blocks, which tell who may see the files that events return, and of themselves what the page reads."""

from __future__ import annotations

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

USUAL_OF = {
    ("row", "variant"): "default",
    ("column", "variant"): "default",
    ("button", "variant"): "secondary",
    ("button", "link_target"): "_self",
}
"""The same of one kind of component."""

UNREAD = (
    *("api_description", "batch", "collects_event_data", "max_batch_size", "scroll_to_output", "stream_every"),
    *("connection", "types"),
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
        for component in config["components"]:
            unread = set() if component["id"] in called else {*FOR_CLIENTS}
            if type(self.blocks[component["id"]]).__module__.startswith("gradio."):
                unread.add("component_class_id")
            if component["key"] is None:
                unread.add("key")
                component["props"].pop("preserved_by_key", None)
            for name in unread:
                component.pop(name, None)
            self._forget_usual(component, component["id"] in called)
        for event in config["dependencies"]:
            for name in OPTIONAL:
                if not event[name]:
                    del event[name]
            for name in OF_PARTS:
                if event[name] is None:
                    del event[name]
            if event not in public:
                for name in UNREAD:
                    del event[name]
        return config

    def _forget_usual(self, component: dict[str, Any], is_called: bool) -> None:
        kind, properties = component["type"], component["props"]
        usual_here = USUAL | {name: usual for (type_, name), usual in USUAL_OF.items() if type_ == kind}
        for name, usual in usual_here.items():
            if properties.get(name) == usual and type(properties[name]) is type(usual):
                del properties[name]
        own_code = not type(self.blocks[component["id"]]).__module__.startswith("gradio.")
        if not (is_called or own_code) and properties.get("name") == kind:
            del properties["name"]  # its type is told already
