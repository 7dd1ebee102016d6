"""The smallest Gradio page there is, to compare the start with: python -m bench.bare_gradio PORT."""

import sys

import gradio as gr

with gr.Blocks(analytics_enabled=False) as page:
    gr.Button("Go")

page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True)
