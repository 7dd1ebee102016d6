"""The Extensions tab: what was found and what went wrong with it; and models to be had from elsewhere."""

from __future__ import annotations

import gradio as gr

from webui.extensions.host import Extension
from webui.services.services import Services
from webui.ui.html import escape, sentences

DOWNLOADS = (
    "Paste the address of a model, a repository or a file from huggingface.co, civitai.com or elsewhere. Files are "
    "checked by their hash and content before they appear; a download that breaks off goes on where it ended. For "
    "gated models set HF_TOKEN or CIVITAI_API_KEY in the environment that Easel starts in."
)
STATES = {
    "active": "in use",
    "disabled": "disabled",
    "broken": "broken",
    "legacy": "written for A1111's web UI, which this version can't run yet",
}


def build_extensions(services: Services) -> None:
    with (
        gr.Tab("Extensions", id="extensions", elem_id="tab_extensions", render_children=True),
        gr.Tabs(elem_id="tabs_extensions"),
    ):
        with gr.Tab("Installed", id="installed", render_children=True):
            gr.HTML(extensions_table(services), elem_id="extensions_installed_html")
        with gr.Tab("Download models", id="downloads", elem_id="tab_downloads", render_children=True):
            gr.HTML(f'<p>{DOWNLOADS}</p><div id="easel_downloads"></div>', elem_id="downloads_html")


def extensions_table(services: Services) -> str:
    """One row an extension, faults underneath."""
    rows = "".join(_row(extension) for extension in services.host.extensions)
    head = "<thead><tr><th>Extension</th><th>Folder</th><th>State</th></tr></thead>"
    table = f"<table>{head}<tbody>{rows}</tbody></table>"
    faults = sentences((problem.sentence for problem in services.host.problems), "error")
    folder = escape(str(services.paths.extensions))
    return (
        f"{table if rows else ''}{faults}<p>To add an extension put its folder into <code>{folder}</code> and restart "
        "Easel; installing from here comes in a later version.</p>"
    )


def _row(extension: Extension) -> str:
    cells = (extension.name, str(extension.folder), STATES[extension.state])
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
