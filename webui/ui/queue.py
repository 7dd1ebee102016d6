"""The Queue tab: what runs, what waits and what has ended, and what can be done about each."""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from typing import Any

import gradio as gr

from webui.core.errors import WebuiError
from webui.jobs.progress import Progress
from webui.services.queue import take_out, thumbnail
from webui.services.services import Services
from webui.ui.html import escape, sentences
from webui.ui.widgets import QUIET

SHOWN_ENDED = 12
EVERY = 2.0
"""Seconds between looks while the tab is open."""
WORDS = {
    "queued": "waits",
    "running": "runs",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "parked": "set aside",
}


def build_queue(services: Services) -> None:
    """assets/queue.js clicks the hidden button with what is to be done."""
    panel = QueuePanel(services)
    with gr.Tab("Queue", id="queue", elem_id="tab_queue", render_children=True) as tab:
        jobs = gr.HTML(elem_id="queue_jobs")
        wish = gr.Textbox(visible="hidden", elem_id="queue_wish")
        act = gr.Button("Do it", visible="hidden", elem_id="queue_act")
        shown = gr.State("")
        timer = gr.Timer(EVERY, active=False)
    act.click(panel.do, wish, [jobs, shown], js="() => easel.queueWish()", **QUIET)
    tab.select(lambda: (gr.Timer(active=True), *panel.all()), None, [timer, jobs, shown], **QUIET)
    timer.tick(panel.news, shown, [jobs, shown], **QUIET)


class QueuePanel:
    """The tab's content, and what its buttons do."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._small = lru_cache(maxsize=64)(self._thumbnail)

    def do(self, wish: str) -> tuple[str, str]:
        """wish: as assets/queue.js puts it."""
        try:
            wanted = json.loads(wish)
            act, job_id = wanted["act"], str(wanted["id"])
            if act == "cancel":
                take_out(self._services, job_id)
            elif act == "again":
                self._services.jobs.run_again(job_id)
            elif act == "move":
                self._services.jobs.move(job_id, wanted["before"])
        except WebuiError as error:
            gr.Warning(escape(str(error)))
        return self.all()

    def news(self, shown: str) -> Any:
        """The content if it isn't what is shown already, which the browser then needn't draw again."""
        content = self._content()
        return (gr.skip(), gr.skip()) if content == shown else (content, content)

    def all(self) -> tuple[str, str]:
        content = self._content()
        return content, content

    def _content(self) -> str:
        jobs = self._services.jobs.listing()
        live = [job for job in jobs if not job.ended]
        ended = [job for job in jobs if job.ended][:SHOWN_ENDED]
        waiting = [job.job_id for job in live if job.state == "queued"]
        rows = "".join(self._row(job, waiting) for job in (*live, *ended))
        trouble = sentences([self._services.jobs.trouble], "error") if self._services.jobs.trouble else ""
        return trouble + (f"<table><tbody>{rows}</tbody></table>" if rows else "<p>Nothing waits.</p>")

    def _row(self, job: Progress, waiting: list[str]) -> str:
        state = WORDS[job.state]
        if job.state == "running":
            state += f" ({job.fraction:.0%})"
        again = "<br>Started again after the server had ended." if job.attempt > 1 else ""
        told = escape(job.error.message) if job.error else ""
        picture = self._small(job.job_id, job.ended_at) if job.state == "done" else ""
        name = f'<span>{escape(job.title)}</span> <span translate="no">{escape(job.job_id)}</span>'
        cells = (picture, name, escape(state) + again, told, self._buttons(job, waiting))
        filled = "".join(f"<td>{cell}</td>" for cell in cells)
        return f'<tr data-state="{job.state}" data-job="{escape(job.job_id)}">{filled}</tr>'

    def _buttons(self, job: Progress, waiting: list[str]) -> str:
        if job.ended:
            return _button("again", "Run again", job.job_id)
        if job.state == "running":
            return _button("cancel", "Stop", job.job_id)
        place = waiting.index(job.job_id)
        up = _button("move", "Up", job.job_id, waiting[place - 1]) if place else ""
        return up + _button("cancel", "Cancel", job.job_id)

    def _thumbnail(self, job_id: str, ended_at: float | None) -> str:
        """ended_at: tells one run of the job from another."""
        try:
            data = base64.b64encode(thumbnail(self._services, job_id)).decode("ascii")
        except WebuiError:
            return ""  # a merge makes no picture, and an old one may be gone
        return f'<img alt="" src="data:image/jpeg;base64,{data}">'


def _button(act: str, label: str, job_id: str, before: str | None = None) -> str:
    other = f' data-before="{escape(before)}"' if before else ""
    return f'<button type="button" data-queue="{act}" data-id="{escape(job_id)}"{other}>{label}</button>'
