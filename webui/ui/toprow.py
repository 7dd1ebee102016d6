"""The top of a generation tab: prompts, Generate and its companions, tools, styles."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from webui.ui.job_panel import JobPanel
from webui.ui.styles import StylesDialog, build_styles
from webui.ui.widgets import NAMES, tool

KEYS = "(Press Ctrl+Enter to generate, Alt+Enter to skip, Esc to interrupt)"


@dataclass(frozen=True)
class TopRow:
    """dropped: takes a file that was dropped or pasted on a prompt."""

    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    paste: gr.Button
    token_counter: gr.HTML
    token_button: gr.Button
    negative_token_counter: gr.HTML
    negative_token_button: gr.Button
    styles: gr.Dropdown
    dialog: StylesDialog
    dropped: gr.File
    interrogate: gr.Button | None
    deepbooru: gr.Button | None


def build_toprow(tab: str, style_names: list[str], job: JobPanel) -> TopRow:
    """tab: "txt2img" or "img2img", the beginning of all element ids. Only img2img can describe its picture.

    job: whose buttons stand here.
    """
    with gr.Row(elem_id=f"{tab}_toprow"):
        with gr.Column(elem_id=f"{tab}_prompt_container", scale=6):
            prompt, counter, count = _prompt(tab, "Prompt", "prompt", "token")
            negative, negative_counter, negative_count = _prompt(tab, "Negative prompt", "neg_prompt", "negative_token")
        with gr.Column(elem_id=f"{tab}_actions_column", scale=1):
            job.place_buttons()
            with gr.Row(elem_id=f"{tab}_tools"):
                paste = tool("↙️", "paste" if tab == "txt2img" else f"{tab}_paste")
                clear = tool("🗑️", f"{tab}_clear_prompt")
                apply_styles = tool("📋", f"{tab}_style_apply")
                interrogate = tool("📎", "interrogate") if tab == "img2img" else None
                deepbooru = tool("📦", "deepbooru") if tab == "img2img" else None
                tool("🌀", f"{tab}_restore_progress", visible="hidden")
            with gr.Row(elem_id=f"{tab}_styles_row"):
                styles = gr.Dropdown(
                    choices=style_names,
                    label="Styles",
                    show_label=False,
                    multiselect=True,
                    elem_id=f"{tab}_styles",
                    elem_classes=[NAMES],
                    container=False,
                )
                edit = tool("🖌️", f"{tab}_styles_edit_button")
            dialog = build_styles(tab, style_names, edit, apply_styles)
    dropped = gr.File(elem_id=f"{tab}_prompt_image", file_count="single", visible="hidden")
    clear.click(None, None, [prompt, negative], js=f"() => easel.clearedPrompts('{tab}')")
    return TopRow(
        prompt=prompt,
        negative_prompt=negative,
        paste=paste,
        token_counter=counter,
        token_button=count,
        negative_token_counter=negative_counter,
        negative_token_button=negative_count,
        styles=styles,
        dialog=dialog,
        dropped=dropped,
        interrogate=interrogate,
        deepbooru=deepbooru,
    )


def _prompt(tab: str, label: str, name: str, counter_name: str) -> tuple[gr.Textbox, gr.HTML, gr.Button]:
    with gr.Row(elem_id=f"{tab}_{name}_row", elem_classes=["prompt-row"]):
        box = gr.Textbox(
            label=label,
            elem_id=f"{tab}_{name}",
            elem_classes=["prompt"],
            show_label=False,
            container=False,
            lines=3,
            max_lines=20,
            placeholder=f"{label}\n{KEYS}",
        )
        counter = gr.HTML("<span>0/75</span>", elem_id=f"{tab}_{counter_name}_counter", elem_classes=["token-counter"])
        count = gr.Button("Count tokens", elem_id=f"{tab}_{counter_name}_button", visible="hidden")
    return box, counter, count
