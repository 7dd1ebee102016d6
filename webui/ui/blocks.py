"""The page's Blocks, which tell who may see the files that events return, and of themselves what the page reads."""

from __future__ import annotations

from typing import Any

import gradio as gr

from webui.ui.visitors.visitors import Visitors

FOR_CLIENTS = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs", "skip_api")
"""What Gradio tells of each component for clients that call its events: a third of the page."""


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
        """The page's description; what only clients read is left to components of events that they may call."""
        config = super().get_config_file()
        public = [event for event in config["dependencies"] if event.get("api_visibility") != "private"]
        kept = {number for event in public for number in (*event["inputs"], *event["outputs"])}
        for component in config["components"]:
            if component["id"] not in kept:
                for key in FOR_CLIENTS:
                    component.pop(key, None)
        return config
