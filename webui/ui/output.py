"""The right side of a generation tab: pictures, what can be done with them, and how they were made."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from webui.ui.widgets import tool


@dataclass(frozen=True)
class OutputPanel:
    gallery: gr.Gallery
    open_folder: gr.Button
    save: gr.Button
    save_zip: gr.Button
    to_img2img: gr.Button
    to_inpaint: gr.Button
    to_extras: gr.Button
    upscale: gr.Button
    files: gr.File
    info: gr.HTML
    log: gr.HTML
    generation_info: gr.Textbox
    selected: gr.State


def build_output(tab: str) -> OutputPanel:
    """selected: index of the picture chosen in the gallery."""
    with gr.Column(elem_id=f"{tab}_results_panel", variant="panel"):
        with gr.Column(elem_id=f"{tab}_gallery_container"):
            gallery = gr.Gallery(
                label="Output",
                show_label=False,
                elem_id=f"{tab}_gallery",
                columns=4,
                preview=True,
                height=None,
                object_fit="contain",
                interactive=False,
                buttons=["download", "fullscreen"],
            )
        with gr.Row(elem_id=f"image_buttons_{tab}", elem_classes=["image-buttons"]):
            open_folder = tool("📂", f"{tab}_open_folder")
            save = tool("💾", f"save_{tab}")
            save_zip = tool("🗃️", f"save_zip_{tab}")
            to_img2img = tool("🖼️", f"{tab}_send_to_img2img")
            to_inpaint = tool("🎨️", f"{tab}_send_to_inpaint")
            to_extras = tool("📐", f"{tab}_send_to_extras")
            upscale = tool("✨", f"{tab}_upscale")
        files = gr.File(
            elem_id=f"download_files_{tab}",
            file_count="multiple",
            interactive=False,
            show_label=False,
            visible=False,
        )
        info = gr.HTML(elem_id=f"html_info_{tab}", elem_classes=["infotext"])
        log = gr.HTML(elem_id=f"html_log_{tab}", elem_classes=["html-log"])
        generation_info = gr.Textbox(elem_id=f"generation_info_{tab}", visible="hidden")
        selected = gr.State(0)
    return OutputPanel(
        gallery=gallery,
        open_folder=open_folder,
        save=save,
        save_zip=save_zip,
        to_img2img=to_img2img,
        to_inpaint=to_inpaint,
        to_extras=to_extras,
        upscale=upscale,
        files=files,
        info=info,
        log=log,
        generation_info=generation_info,
        selected=selected,
    )
