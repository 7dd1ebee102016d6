"""Controls that the checkpoint in use has no use for are greyed out, and lists offer only what it can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from webui.services.capabilities import Offer, current_offer
from webui.services.services import Services
from webui.ui.widgets import QUIET

NEEDS_NEGATIVE = ("negative_prompt", "cfg_scale", "hires.negative_prompt")
IMAGE_SCALE = "image.image_cfg_scale"
LISTS = ("sampler", "scheduler")


def wire_capabilities(
    services: Services, forms: Iterable[Mapping[str, Component]], changes: Iterable[Dependency]
) -> None:
    """forms: dotted parameter path -> component, one a tab. changes: after which another checkpoint may be in use."""
    tabs = list(forms)
    lists = [form[path] for form in tabs for path in LISTS]
    others = [form[path] for form in tabs for path in (*NEEDS_NEGATIVE, IMAGE_SCALE) if path in form]

    def update(*chosen: str) -> list[Any]:
        offer = current_offer(services)
        values = [_list(offer, path, value) for (path, value) in zip(LISTS * len(tabs), chosen, strict=True)]
        paths = [path for form in tabs for path in (*NEEDS_NEGATIVE, IMAGE_SCALE) if path in form]
        return [*values, *(_control(offer, path) for path in paths)]

    for change in changes:
        change.then(update, lists, [*lists, *others], **QUIET)


def _list(offer: Offer | None, path: str, value: str) -> Any:
    """The list of samplers or of schedules; a choice that the model can't take gives way to the first that it can."""
    if offer is None or not offer.samplers:
        return gr.skip()
    offered = list(offer.samplers if path == "sampler" else offer.schedules)
    return gr.Dropdown(choices=offered, value=value if value in offered else offered[0])


def _control(offer: Offer | None, path: str) -> Any:
    if offer is None or offer.capabilities is None:
        return gr.skip()
    if path == IMAGE_SCALE:
        return gr.update(visible=True if offer.capabilities.input_kind == "edit" else "hidden")
    return gr.update(interactive=offer.capabilities.negative_prompt)
