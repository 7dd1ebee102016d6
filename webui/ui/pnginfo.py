"""The PNG Info tab: how a picture was made, read from the picture itself."""

from __future__ import annotations

import gradio as gr

from webui.desk.services import Services
from webui.ui.txt2img import Txt2Img


def build_pnginfo(services: Services, txt2img: Txt2Img) -> None:
    with gr.Tab("PNG Info", id="pnginfo", elem_id="tab_pnginfo", render_children=True):
        sentence = "Reading parameters back from pictures comes in a later version of Easel."
        gr.HTML(f"<p>{sentence}</p>", elem_classes=["not-yet"])
