"""The Train tab: an empty place that assets/training.js fills when it is first opened, from training_routes.py."""

import gradio as gr


def build_training() -> None:
    with gr.Tab("Train", id="train", elem_id="tab_train", render_children=True):
        gr.HTML('<div id="train_pane"></div>')
