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
from webui.ui.visitors.visitors import owner_of
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
    tab.select(panel.open, None, [timer, jobs, shown], **QUIET)
    timer.tick(panel.news, shown, [jobs, shown], **QUIET)


class QueuePanel:
    """The tab's content, and what its buttons do."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._small = lru_cache(maxsize=64)(self._thumbnail)

    def open(self, request: gr.Request) -> tuple[gr.Timer, str, str]:
        return gr.Timer(active=True), *self._all(owner_of(request))

    def do(self, wish: str, request: gr.Request) -> tuple[str, str]:
        """wish: as assets/queue.js puts it."""
        owner = owner_of(request)
        try:
            wanted = json.loads(wish)
            act, job_id = wanted["act"], str(wanted["id"])
            self._services.belongings.check_job(owner, job_id)
            if act == "cancel":
                take_out(self._services, job_id)
            elif act == "again":
                self._services.jobs.run_again(job_id)
            elif act == "move" and self._services.belongings.for_one:
                self._services.jobs.move(job_id, wanted["before"])
        except WebuiError as error:
            gr.Warning(escape(str(error)))
        return self._all(owner)

    def news(self, shown: str, request: gr.Request) -> Any:
        """The content if it isn't what is shown already, which the browser then needn't draw again."""
        content = self._content(owner_of(request))
        return (gr.skip(), gr.skip()) if content == shown else (content, content)

    def _all(self, owner: str) -> tuple[str, str]:
        content = self._content(owner)
        return content, content

    def _content(self, owner: str) -> str:
        """What this owner may see: their own jobs, and of others' only that they run or wait."""
        belongings = self._services.belongings
        jobs = self._services.jobs.listing()
        own = {job.job_id for job in jobs if belongings.has_job(owner, job.job_id)}
        live = [job for job in jobs if not job.ended]
        ended = [job for job in jobs if job.ended and job.job_id in own][:SHOWN_ENDED]
        waiting = [job.job_id for job in live if job.state == "queued"] if belongings.for_one else []
        rows = "".join(self._row(job, waiting) if job.job_id in own else _row_of_others(job) for job in (*live, *ended))
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
        place = waiting.index(job.job_id) if waiting else 0
        up = _button("move", "Up", job.job_id, waiting[place - 1]) if place else ""
        return up + _button("cancel", "Cancel", job.job_id)

    def _thumbnail(self, job_id: str, ended_at: float | None) -> str:
        """ended_at: tells one run of the job from another."""
        try:
            data = base64.b64encode(thumbnail(self._services, job_id)).decode("ascii")
        except WebuiError:
            return ""  # a merge makes no picture, and an old one may be gone
        return f'<img alt="" src="data:image/jpeg;base64,{data}">'


def _row_of_others(job: Progress) -> str:
    state = WORDS[job.state] + (f" ({job.fraction:.0%})" if job.state == "running" else "")
    return f'<tr data-state="{job.state}"><td></td><td>Another user\'s job</td><td>{state}</td><td></td><td></td></tr>'


def _button(act: str, label: str, job_id: str, before: str | None = None) -> str:
    other = f' data-before="{escape(before)}"' if before else ""
    return f'<button type="button" data-queue="{act}" data-id="{escape(job_id)}"{other}>{label}</button>'
