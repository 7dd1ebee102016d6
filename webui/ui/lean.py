"""A page that says about itself only what the browser needs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from webui.ui.visitors.visitors import Visitors

OF_COMPONENTS = (
    *("api_info", "api_info_as_input", "api_info_as_output", "example_inputs", "skip_api"),
    "component_class_id",
)
"""What Gradio tells of each component for its API pages, which we don't show (every event is private), and for
components that aren't its own."""

OF_EVENTS = ("api_description", "batch", "max_batch_size", "collects_event_data")
"""What only the server and the API pages read of an event."""

EMPTY = (
    *("key", "rendered_in", "render_id", "event_specific_args", "component_prop_inputs", "js_implementation"),
    *("show_progress_on", "scroll_to_output", "trigger_only_on_failure", "trigger_only_on_success", "time_limit"),
)
"""What the page takes as absent when it is null, false or an empty list."""


class LeanBlocks(gr.Blocks):
    """Blocks whose description, which is part of the HTML, leaves out what nothing on the page reads: half of it."""

    visitors: Visitors | None = None
    """Who is told of the files that events return, once the page is mounted."""

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        result = await super().process_api(*args, **options)
        request = options.get("request")
        if self.visitors is not None and request is not None:
            self.visitors.hand_out(result["data"], request[0] if isinstance(request, list) else request)
        return result

    def get_config_file(self) -> Any:
        config = super().get_config_file()
        for part, unused in ((config["components"], OF_COMPONENTS), (config["dependencies"], OF_EVENTS)):
            for item in part:
                for key in unused:
                    item.pop(key, None)
                for key in EMPTY:
                    value = item.get(key, ...)
                    if value is None or value is False or value == []:
                        del item[key]
        for component in config["components"]:
            component["props"].pop("preserved_by_key", None)  # only for gr.render, which the page doesn't use
        return config
