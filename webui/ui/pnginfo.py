"""The PNG Info tab: how a picture was made, read from the picture itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from webui.core.errors import WebuiError
from webui.core.pictures import read_infotext
from webui.desk.services import Services
from webui.ui.html import escape, paragraphs, problem
from webui.ui.txt2img import Txt2Img
from webui.ui.widgets import QUIET

LATER = {"img2img": "Send to img2img", "inpaint": "Send to inpaint", "extras": "Send to extras"}


def build_pnginfo(services: Services, txt2img: Txt2Img) -> None:
    with gr.Tab("PNG Info", id="pnginfo", elem_id="tab_pnginfo", render_children=True), gr.Row(equal_height=False):
        with gr.Column():
            picture = gr.Image(
                label="Source",
                elem_id="pnginfo_image",
                type="filepath",
                image_mode=None,  # the file as it is, with its texts
                sources=["upload", "clipboard"],
                interactive=True,
            )
        with gr.Column(variant="panel"):
            shown = gr.HTML(elem_id="html_info_pnginfo", elem_classes=["infotext"])
            infotext = gr.Textbox(elem_id="pnginfo_generation_info", visible="hidden")
            with gr.Row():
                send = gr.Button("Send to txt2img", elem_id="txt2img_tab")
                later = {name: gr.Button(label, elem_id=f"{name}_tab") for name, label in LATER.items()}

    def read(path: str | None) -> tuple[str, str]:
        if not path:
            return "", ""
        try:
            found, items = read_infotext(Path(path).read_bytes())
        except (WebuiError, OSError) as error:
            return problem(error), ""
        rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(text)}</td></tr>" for key, text in items.items())
        table = f"<table><tbody>{rows}</tbody></table>" if rows else ""
        return (paragraphs(found or "") or "<p>This picture carries no generation parameters.</p>") + table, found or ""

    def paste(text: str) -> Any:
        if not text:
            gr.Warning("There is nothing to send: the picture carries no generation parameters.")
            return gr.skip()
        return txt2img.updates(text)

    picture.change(read, picture, [shown, infotext], **QUIET)
    send.click(paste, infotext, txt2img.pasted, **QUIET).success(None, None, None, js="() => easel.showTab('txt2img')")
    for name, button in later.items():
        button.click(lambda name=name: gr.Info(f"{name} comes in a later version of Easel."), None, None, **QUIET)
