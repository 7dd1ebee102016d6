"""The Settings tab: an empty place, which assets/settings_form.js fills when the tab is first opened."""

from __future__ import annotations

import gradio as gr


def build_settings() -> None:
    with gr.Tab("Settings", id="settings", elem_id="tab_settings", render_children=True):
        gr.HTML('<div id="easel_settings_form"></div>', elem_id="settings_html")
