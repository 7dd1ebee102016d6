"""The PNG Info tab: how a picture was made, read from the picture itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from webui.core.errors import WebuiError
from webui.services.file_texts import read_file_texts
from webui.services.reproduce import check
from webui.services.services import Services
from webui.ui.extras import Extras
from webui.ui.html import escape, paragraphs, problem, reproduction
from webui.ui.img2img import Img2Img
from webui.ui.sending import wire_file
from webui.ui.sources import IMG2IMG, INPAINT
from webui.ui.txt2img import Txt2Img
from webui.ui.widgets import QUIET


def build_pnginfo(services: Services, txt2img: Txt2Img, img2img: Img2Img, extras: Extras) -> None:
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
            video = gr.File(label="Or a video", elem_id="pnginfo_video", file_types=["video"], height=140)
        with gr.Column(variant="panel"):
            shown = gr.HTML(elem_id="html_info_pnginfo", elem_classes=["infotext"])
            infotext = gr.Textbox(elem_id="pnginfo_generation_info", visible="hidden")
            with gr.Row():
                send = gr.Button("Send to txt2img", elem_id="txt2img_tab")
                to_img2img = gr.Button("Send to img2img", elem_id="img2img_tab")
                to_inpaint = gr.Button("Send to inpaint", elem_id="inpaint_tab")
                to_extras = gr.Button("Send to extras", elem_id="extras_tab")

    def read(path: str | None) -> tuple[str, str]:
        """What is shown: parameters, whether they can be had here, the picture's other texts; and the infotext."""
        if not path:
            return "", ""
        try:
            found, items = read_file_texts(Path(path).read_bytes())
        except (WebuiError, OSError) as error:
            return problem(error), ""
        rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(text)}</td></tr>" for key, text in items.items())
        table = f"<table><tbody>{rows}</tbody></table>" if rows else ""
        if not found:
            return "<p>This file carries no generation parameters.</p>" + table, ""
        return paragraphs(found) + reproduction(check(services, found, items)) + table, found

    def paste(path: str | None, text: str) -> Any:
        if not text:
            gr.Warning("There is nothing to send: the picture carries no generation parameters.")
            return gr.skip()
        try:
            texts = read_file_texts(Path(path).read_bytes())[1] if path else {}
        except (WebuiError, OSError):
            texts = {}  # the file is gone from the server; its infotext is still on the page
        return txt2img.updates(text, texts)

    picture.change(read, picture, [shown, infotext], **QUIET)
    video.change(read, video, [shown, infotext], **QUIET)
    sent = send.click(paste, [picture, infotext], txt2img.pasted, **QUIET)
    sent.success(None, None, None, js="() => easel.showTab('txt2img')")
    txt2img.judged(sent)
    wire_file(to_img2img, picture, infotext, img2img, IMG2IMG)
    wire_file(to_inpaint, picture, infotext, img2img, INPAINT)
    extras.receive_file(to_extras, picture)
