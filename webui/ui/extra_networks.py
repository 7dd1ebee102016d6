"""The tabs beside Generation: embeddings, hypernetworks, checkpoints, LoRAs.

The page holds an empty pane for each; assets/extra_networks.js fills the one that is looked at, card by card, from the
routes in card_routes.py. So thousands of files cost the page nothing.
"""

from __future__ import annotations

import gradio as gr

from webui.core.settings import Settings

TABS = {
    "Textual Inversion": "textual_inversion",
    "Hypernetworks": "hypernetworks",
    "Checkpoints": "checkpoints",
    "Lora": "lora",
}
"""Label -> kind of cards, which is also in the element ids."""

ON_PAGE = (
    "extra_networks_add_text_separator",
    "extra_networks_card_width",
    "extra_networks_card_height",
    "extra_networks_card_text_scale",
    "extra_networks_card_order_field",
    "extra_networks_card_order",
    "extra_networks_tree_view_style",
    "extra_networks_tree_view_default_enabled",
    "extra_networks_tree_view_default_width",
    "extra_networks_dir_button_function",
)
"""Settings that the panes obey."""


def build_extra_networks(tab: str, settings: Settings) -> None:
    """An empty pane a kind. tab: "txt2img" or "img2img", the beginning of all element ids."""
    for label in tab_order(settings["ui_extra_networks_tab_reorder"]):
        kind = TABS[label]
        with gr.Tab(label, elem_id=f"{tab}_{kind}", elem_classes=["extra-page"], render_children=True):
            pane = f'<div id="{tab}_{kind}_pane" class="extra-network-pane" data-tab="{tab}" data-kind="{kind}"></div>'
            gr.HTML(pane, elem_id=f"{tab}_{kind}_cards_html")


def tab_order(wished: str) -> list[str]:
    """The labels, first those that the setting lists, in its order."""
    by_name = {label.lower(): label for label in TABS}
    first = [by_name[name.strip().lower()] for name in wished.split(",") if name.strip().lower() in by_name]
    return list(dict.fromkeys([*first, *TABS]))
