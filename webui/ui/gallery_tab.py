"""The Gallery tab, which assets/gallery.js fills when it is opened."""

from __future__ import annotations

import gradio as gr


def build_gallery() -> None:
    with gr.Tab("Gallery", id="gallery", elem_id="tab_gallery", render_children=True):
        gr.HTML('<div id="easel_gallery"></div>')
