"""A picture from one tab to another, with what made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.errors import WebuiError
from webui.core.pictures import size_of
from webui.services.drawings import scaled_size
from webui.services.infotexts import form_from_infotext
from webui.ui.html import escape
from webui.ui.img2img import Img2Img
from webui.ui.output import OutputPanel
from webui.ui.sources import IMG2IMG, INPAINT
from webui.ui.tab import GenerationTab, Update
from webui.ui.widgets import QUIET

ALONG = ("prompt", "negative_prompt", "steps")
"""Fields that a picture of txt2img takes along; its seed and size as the settings send_* say."""


def wire_gallery(source: GenerationTab, target: Img2Img) -> None:
    """Let the buttons under a gallery send the chosen picture to img2img and to Inpaint."""
    output = source.output
    fields = [target.fields[name] for name in (*ALONG, "seed", "width", "height")]
    for mode, button in ((IMG2IMG, output.to_img2img), (INPAINT, output.to_inpaint)):

        def send(job_id: str, selected: int, mode: str = mode) -> Update:
            settings = target.services.settings.snapshot()
            try:
                picture = output.chosen_picture(job_id, selected)
            except WebuiError as error:
                raise gr.Error(escape(str(error)), print_exception=False) from error
            updates = _shown(target, mode, output.file(picture), (picture.width, picture.height))
            if source is not target:
                form = form_from_infotext(picture.infotext, target.services).form
                names = (*ALONG, "seed") if settings["send_seed"] else ALONG
                updates |= {target.fields[name]: form[name] for name in names if name in form}
            return updates

        sent = button.click(send, output.picture, [target.source.entry(mode), *fields], js=output.picture_js, **QUIET)
        target.source.arrived(sent, mode)


def wire_result(output: OutputPanel, target: Img2Img) -> None:
    """Let the buttons under Extras' results send the chosen picture, and nothing else, to img2img and to Inpaint."""
    for mode, button in ((IMG2IMG, output.to_img2img), (INPAINT, output.to_inpaint)):

        def send(job_id: str, selected: int, mode: str = mode) -> Update:
            try:
                picture = output.chosen_picture(job_id, selected)
            except WebuiError as error:
                raise gr.Error(escape(str(error)), print_exception=False) from error
            return _shown(target, mode, output.file(picture), (picture.width, picture.height))

        outputs = [target.source.entry(mode), target.fields["width"], target.fields["height"]]
        sent = button.click(send, output.picture, outputs, js=output.picture_js, **QUIET)
        target.source.arrived(sent, mode)


def wire_file(button: gr.Button, picture: Component, infotext: Component, target: Img2Img, mode: str) -> None:
    """Let a button send a picture file, and all that its infotext tells, to a mode of img2img.

    picture: a component whose value is a file's path. infotext: one whose value is its infotext, "" for none.
    """

    def send(path: str | None, text: str) -> Update:
        if not path:
            raise gr.Error("There is no picture to send; load one first.", print_exception=False)
        try:
            size = size_of(Path(path).read_bytes())
        except (WebuiError, OSError) as error:
            raise gr.Error(escape(str(error)), print_exception=False) from error
        settings = target.services.settings.snapshot()
        updates = target.updates(text) if text else {}
        kept = [target.fields["seed"]] if not settings["send_seed"] else []
        kept += [target.fields["width"], target.fields["height"]] if not settings["send_size"] else []
        return {
            **_shown(target, mode, path, size),
            **{component: value for component, value in updates.items() if component not in kept},
        }

    outputs = [target.source.entry(mode), *target.pasted]
    sent = button.click(send, [picture, infotext], outputs, **QUIET)
    target.judged(sent)
    target.source.arrived(sent, mode)


def _shown(target: Img2Img, mode: str, file: str, size: tuple[int, int]) -> Update:
    """The file in its place, and its size in the form if so set."""
    updates: dict[Component, Any] = {target.source.entry(mode): file}
    if target.services.settings.snapshot()["send_size"]:
        width, height = scaled_size(size, 1)
        updates |= {target.fields["width"]: width, target.fields["height"]: height}
    return updates
