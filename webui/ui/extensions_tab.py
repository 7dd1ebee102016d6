"""The Extensions tab, which assets/extensions.js fills when it is opened; and models to be had from elsewhere."""

from __future__ import annotations

import gradio as gr

from webui.services.extension_index import usual_address
from webui.ui.html import escape

DOWNLOADS = (
    "Paste the address of a model, a repository or a file from huggingface.co, civitai.com or elsewhere. Files are "
    "checked by their hash and content before they appear; a download that breaks off goes on where it ended. For "
    "gated models set HF_TOKEN or CIVITAI_API_KEY in the environment that Easel starts in."
)
PARTS = {"Installed": "installed", "Available": "available", "Install from URL": "install", "Backup/Restore": "backup"}


def build_extensions() -> None:
    index = escape(usual_address())
    with (
        gr.Tab("Extensions", id="extensions", elem_id="tab_extensions", render_children=True),
        gr.Tabs(elem_id="tabs_extensions"),
    ):
        for label, part in PARTS.items():
            with gr.Tab(label, id=part, render_children=True):
                gr.HTML(f'<div data-extensions="{part}" data-index="{index}"></div>')
        with gr.Tab("Download models", id="downloads", elem_id="tab_downloads", render_children=True):
            gr.HTML(f'<p>{DOWNLOADS}</p><div id="easel_downloads"></div>', elem_id="downloads_html")
