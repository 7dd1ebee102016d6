"""The tabs beside Generation: embeddings, hypernetworks, checkpoints, LoRAs."""

from __future__ import annotations

import gradio as gr

from webui.desk.services import Services
from webui.ui.html import escape

LATER = {
    "Textual Inversion": ("textual_inversion", "Cards for embeddings come in a later version of Easel."),
    "Hypernetworks": ("hypernetworks", "Cards for hypernetworks come in a later version of Easel."),
    "Checkpoints": ("checkpoints", ""),
    "Lora": ("lora", "Cards for LoRAs come in a later version of Easel."),
}


def build_cards(tab: str, services: Services) -> gr.HTML:
    """A card per checkpoint (a click chooses it); a sentence in the tabs that aren't built yet.

    Returns: the checkpoints' cards.
    """
    components = {}
    for label, (name, sentence) in LATER.items():
        with gr.Tab(label, elem_id=f"{tab}_{name}", elem_classes=["extra-page"], render_children=True):
            content = checkpoint_cards(services) if name == "checkpoints" else f"<p>{sentence}</p>"
            components[name] = gr.HTML(
                content, elem_id=f"{tab}_{name}_cards_html", elem_classes=["not-yet"] if sentence else []
            )
    return components["checkpoints"]


def checkpoint_cards(services: Services) -> str:
    """Name, size and folder of every checkpoint."""
    cards = [
        f'<button class="card" data-checkpoint="{escape(checkpoint.title)}">'
        f'<span class="name">{escape(checkpoint.model_name)}</span>'
        f'<span class="description">{escape(checkpoint.problem or _size(checkpoint.size))}</span></button>'
        for checkpoint in services.checkpoints
    ]
    if not cards:
        return f"<p>There is no checkpoint in {escape(str(services.paths.checkpoints[0]))} yet.</p>"
    return f'<div class="extra-network-cards">{"".join(cards)}</div>'


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
