"""The last lines of the page: links, and the versions at work."""

from __future__ import annotations

from webui.core.errors import WebuiError
from webui.services.services import Services
from webui.services.versions import versions
from webui.ui.html import escape

DOT = "&ensp;•&ensp;"


def footer(services: Services) -> str:
    links = DOT.join(
        [
            '<a href="docs" target="_blank">API</a>',
            '<a href="https://www.gradio.app" target="_blank" rel="noreferrer">Gradio</a>',
            '<a href="javascript:void(0)" data-easel="reload">Reload UI</a>',
        ]
    )
    facts = {**versions(), "checkpoint": _checkpoint(services)}
    line = DOT.join(f"{escape(name)}: <b>{escape(value)}</b>" for name, value in facts.items())
    return f'<div class="links">{links}</div><div class="versions">{line}</div>'


def _checkpoint(services: Services) -> str:
    try:
        current = services.checkpoints.default(services.settings.snapshot()["sd_model_checkpoint"] or "")
    except WebuiError:
        return "none"
    return current.shorthash or current.model_name
