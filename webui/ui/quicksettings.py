"""The row above the tabs: settings that are at hand everywhere, the checkpoint first of all."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from webui.core.errors import WebuiError
from webui.services.checkpoint_defaults import CheckpointDefaults, current_defaults
from webui.services.generation import choose_checkpoint
from webui.services.services import Services
from webui.ui import html
from webui.ui.widgets import NAMES, QUIET, tool

CHECKPOINT = "sd_model_checkpoint"
FOLLOWING = ("width", "height", "cfg_scale")
"""Fields of a form that begin with what suits the checkpoint."""

SAME_CHOICE = 2.0
"""Seconds within which the same choice is one choice that was told twice."""


def current_title(services: Services) -> str | None:
    """The title of the checkpoint in use, None when there is none at all."""
    try:
        return services.checkpoints.default(services.settings.snapshot()[CHECKPOINT] or "").title
    except WebuiError:
        return None


def build_quicksettings(services: Services) -> tuple[gr.Dropdown, gr.Button]:
    """The checkpoint list and its refresh button; assets/settings_form.js adds what `quicksettings_list` names."""
    with gr.Row(elem_id="quicksettings"):
        checkpoint = gr.Dropdown(
            choices=list(services.checkpoints.titles()),
            value=current_title(services),
            label="Stable Diffusion checkpoint",
            elem_id=f"setting_{CHECKPOINT}",
            elem_classes=[NAMES],
            allow_custom_value=True,
            scale=0,
            min_width=330,
        )
        refresh = tool("🔄", f"refresh_{CHECKPOINT}")
    return checkpoint, refresh


def wire_checkpoint(
    services: Services, checkpoint: gr.Dropdown, refresh: gr.Button, forms: Sequence[Mapping[str, Component]]
) -> list[Dependency]:
    """forms: one a tab, whose fields in `FOLLOWING` follow the checkpoint's defaults while nobody has changed them.

    Returns: the events after which another checkpoint may be in use.
    """

    lock, latest = Lock(), _Choice()
    followers = [form[path] for form in forms for path in FOLLOWING]

    def choose(name: str | None) -> Any:
        """Start the load; returns the list's value and, for `report`, the job and the defaults before it.

        The list tells of one choice twice, by the click and by losing the focus, and the page goes on with either
        answer: both get the same.
        """
        nonlocal latest
        with lock:
            if name and latest.name == name and time.monotonic() - latest.at < SAME_CHOICE:
                return name, latest.loading
            before = current_title(services)
            if not name or name == before:
                return gr.skip()
            defaults = current_defaults(services)
            try:
                loading = json.dumps([choose_checkpoint(services, name), asdict(defaults)])
            except WebuiError as error:
                gr.Warning(html.escape(str(error)))
                return before, ""
            latest = _Choice(name, loading, time.monotonic())
            return name, loading

    async def report(loading: str, *values: float) -> Any:
        """Watch the model load. If it can't be, the job has gone back to the one before; the page says why."""
        unchanged = [gr.skip() for _ in values]
        if not loading:
            return *unchanged, ""
        job, before = json.loads(loading)
        while not services.jobs.progress(job).ended:
            await asyncio.sleep(0.2)
        failure = services.jobs.progress(job).error
        if failure:
            gr.Warning(html.escape(failure.message))
        if failure:
            return *unchanged, ""
        usual, new = CheckpointDefaults(**before).form, current_defaults(services).form
        changes: list[Any] = []
        for width, height, cfg_scale in zip(*[iter(values)] * len(FOLLOWING), strict=True):
            sized = (width, height) == (usual["width"], usual["height"])
            follows = {"width": sized, "height": sized, "cfg_scale": cfg_scale == usual["cfg_scale"]}
            changes += [new[path] if follows[path] else gr.skip() for path in FOLLOWING]
        return *changes, ""

    def reload() -> Any:
        services.checkpoints.refresh()
        services.checkpoints.hash_in_background()
        return gr.Dropdown(choices=list(services.checkpoints.titles()), value=current_title(services))

    loading = gr.Textbox(visible="hidden")
    card = gr.Button("Change checkpoint", elem_id="change_checkpoint", visible="hidden")
    chosen = checkpoint.input(choose, checkpoint, [checkpoint, loading], trigger_mode="once", **QUIET)
    clicked = card.click(choose, checkpoint, [checkpoint, loading], js="() => [easel.chosenCheckpoint()]", **QUIET)
    loads = [start.then(report, [loading, *followers], [*followers, loading], **QUIET) for start in (chosen, clicked)]
    return [*loads, refresh.click(reload, None, checkpoint, **QUIET)]


@dataclass(frozen=True)
class _Choice:
    """A checkpoint that was chosen, what `choose` answered, and when (monotonic seconds)."""

    name: str = ""
    loading: str = ""
    at: float = -math.inf
