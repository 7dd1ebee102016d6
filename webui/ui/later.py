"""Tabs that a later version of Easel will fill. Each says so in one sentence; nothing pretends."""

import gradio as gr

LATER = {
    "settings": (
        "Settings",
        "settings",
        "This tab comes in a later version of Easel; until then every setting can be changed in config.json "
        "(while Easel is stopped) or through /sdapi/v1/options.",
    ),
}


def build_later(tab: str) -> None:
    """A tab with its sentence. tab: a key of LATER."""
    label, elem_id, sentence = LATER[tab]
    with gr.Tab(label, id=elem_id, elem_id=f"tab_{elem_id}", render_children=True):
        gr.HTML(f"<p>{sentence}</p>", elem_classes=["not-yet"])
