"""A page that says about itself only what the browser needs."""

from __future__ import annotations

from typing import Any

import gradio as gr

UNUSED = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs", "component_class_id")
"""What Gradio tells of each component for its API pages, which we don't show (every event is private), and for
components that aren't its own. It is a third of the page's HTML."""


class LeanBlocks(gr.Blocks):
    """Blocks whose description, which is part of the HTML, leaves out what nothing on the page reads."""

    def get_config_file(self) -> Any:
        config = super().get_config_file()
        for component in config["components"]:
            for key in UNUSED:
                component.pop(key, None)
        return config
