"""The right side of a generation tab: pictures, what can be done with them, and how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.components import Component
from gradio.processing_utils import save_bytes_to_cache

from webui.core.errors import InvalidRequest, WebuiError
from webui.core.results import ResultFile
from webui.services import generation, saving
from webui.services.services import Services
from webui.ui import html
from webui.ui.job_panel import JobPanel
from webui.ui.widgets import QUIET, show_problem, tool


class OutputPanel:
    """The gallery of a tab's last job and the buttons under it.

    selected: index of the picture chosen in the gallery. generation_info: the job's facts and infotexts, as JSON.
    upscale: only under txt2img's pictures. save, save_zip: not in Extras, whose results are saved already.
    """

    def __init__(self, services: Services, tab: Literal["txt2img", "img2img", "extras"], job: JobPanel) -> None:
        """job: whose results it shows."""
        self.services = services
        self.tab = tab
        with gr.Column(elem_id=f"{tab}_results_panel", variant="panel"):
            with gr.Column(elem_id=f"{tab}_gallery_container"):
                self.gallery = gr.Gallery(
                    label="Output",
                    show_label=False,
                    elem_id=f"{tab}_gallery",
                    columns=4,
                    preview=True,
                    height=None,
                    object_fit="contain",
                    interactive=False,
                    buttons=["download"],  # full-window view: assets/lightbox.js
                )
            with gr.Row(elem_id=f"image_buttons_{tab}", elem_classes=["image-buttons"]):
                self.open_folder = tool("📂", f"{tab}_open_folder")
                self.save = tool("💾", f"save_{tab}") if tab != "extras" else None
                self.save_zip = tool("🗃️", f"save_zip_{tab}") if tab != "extras" else None
                self.to_img2img = tool("🖼️", f"{tab}_send_to_img2img")
                self.to_inpaint = tool("🎨️", f"{tab}_send_to_inpaint")
                self.to_extras = tool("📐", f"{tab}_send_to_extras")
                self.upscale = tool("✨", f"{tab}_upscale") if tab == "txt2img" else None
            self.files = gr.File(
                elem_id=f"download_files_{tab}",
                file_count="multiple",
                interactive=False,
                show_label=False,
                visible=False,
            )
            if tab == "extras":
                gr.HTML(elem_id="html_info_x_extras")
            self.info = gr.HTML(elem_id=f"html_info_{tab}", elem_classes=["infotext"])
            job.place_log()
            self.log = job.log
            self.generation_info = gr.Textbox(elem_id=f"generation_info_{tab}", visible="hidden")
            self.selected = gr.Number(0, precision=0, visible="hidden")
            self._job = gr.Textbox(visible="hidden")

    @property
    def shown(self) -> list[Component]:
        """What `show_result` fills."""
        return [self.gallery, self.generation_info, self.info, self.log, self.selected, self.files]

    @property
    def chosen(self) -> list[Component]:
        """Inputs that tell which picture is chosen, and all about it."""
        return [self.generation_info, self.selected]

    @property
    def picture(self) -> list[Component]:
        """Inputs for `chosen_picture`; to be used with `picture_js`."""
        return [self._job, self.selected]

    @property
    def picture_js(self) -> str:
        return f"(_, selected) => [easel.shownJob('{self.tab}'), easel.chosenPicture('{self.tab}') ?? selected]"

    def wire(self) -> None:
        js = f"(info, selected) => easel.newlyChosenPicture('{self.tab}', info, selected)"
        shown = [self.selected, self.info]
        self.gallery.select(self._select, self.chosen, shown, js=js, trigger_mode="always_last", **QUIET)
        saved = [self.files, self.log]
        for button, save in ((self.save, self._save_one), (self.save_zip, self._save_zip)):
            if button is not None:
                button.click(save, self.picture, saved, js=self.picture_js, **QUIET)
        self.open_folder.click(self._open_folder, self.picture, None, js=self.picture_js, **QUIET)

    # A finished job

    def show_result(self, job_id: str) -> Any:
        """Pictures and videos, other files, infotext and log of a job that ended; only a sentence when it failed."""
        try:
            result = generation.generation_result(self.services, job_id)
        except WebuiError as error:
            return {self.log: show_problem(error)}
        seen = [*result.images, *(file for file in result.files if file.role == "video")]
        others = [self.file(file) for file in result.files if file.role != "video"]
        texts = [item.infotext for item in seen]
        info = {**result.info, "infotexts": texts, "index_of_first_image": result.index_of_first_image}
        hidden = self.services.settings.snapshot()["do_not_show_images"]
        files = [] if hidden else [self.file(item) for item in seen]
        return {
            self.gallery: gr.Gallery(value=files, selected_index=0 if files else None),
            self.generation_info: json.dumps(info),
            self.info: html.paragraphs(texts[0]) if texts else "",
            self.log: html.result_log(result),
            self.selected: 0,
            self.files: gr.File(value=others or None, visible=bool(others)),
        }

    def file(self, item: ResultFile) -> str:
        """Where the browser can fetch it: the saved file if it may be served, else a copy in the cache."""
        saved = Path(item.path) if item.path else None
        if saved is not None and saved.is_relative_to(self.services.paths.outputs) and saved.is_file():
            return str(saved)
        return save_bytes_to_cache(item.data, item.name, self.gallery.GRADIO_CACHE)

    def chosen_picture(self, job_id: str, selected: int) -> ResultFile:
        """The picture chosen in the gallery. Raises: InvalidRequest when there is none, NotFound for one forgotten."""
        images = generation.generation_result(self.services, job_id).images if job_id else ()
        if not images:
            raise InvalidRequest("There is no picture to send; generate one first.")
        return images[min(selected, len(images) - 1)]

    def infotext(self, info: str, selected: int) -> str:
        """The infotext of the picture chosen, from `chosen`'s values. Raises: InvalidRequest when there is none."""
        texts = _infotexts(info)
        if not 0 <= selected < len(texts):
            raise InvalidRequest("There is no picture to upscale; generate one first.")
        return texts[selected]

    def _select(self, info: str, index: int) -> tuple[int, str]:
        texts = _infotexts(info)
        return index, html.paragraphs(texts[index]) if index < len(texts) else ""

    # Seeds

    def reuse_seed(self, info: str, selected: int) -> Any:
        return self._seed(info, selected, variation=False)

    def reuse_subseed(self, info: str, selected: int) -> Any:
        return self._seed(info, selected, variation=True)

    def _seed(self, info: str, selected: int, *, variation: bool) -> Any:
        try:
            return str(generation.seed_of_picture(json.loads(info or "{}"), selected, variation=variation))
        except WebuiError as error:
            gr.Warning(str(error))
            return gr.skip()

    # Saving

    def _save_one(self, job_id: str, selected: int) -> Any:
        return self._save(job_id, selected, zipped=False)

    def _save_zip(self, job_id: str, selected: int) -> Any:
        return self._save(job_id, selected, zipped=True)

    def _save(self, job_id: str, selected: int, *, zipped: bool) -> Any:
        try:
            if not job_id:
                raise WebuiError("There is no picture to save; generate one first.")
            result = generation.generation_result(self.services, job_id)
            files = saving.save_pictures(self.services, result, selected)
            if zipped:
                files = [saving.zip_pictures(self.services, files, result)]
        except WebuiError as error:
            return gr.skip(), show_problem(error)
        note = html.sentences([f"Saved: {', '.join(path.name for path in files)}"], "saved")
        paths = self.services.paths
        offered = [str(file) for file in files if any(map(file.is_relative_to, (paths.log, paths.outputs)))]
        return gr.File(value=offered, visible=bool(offered)), note

    def _open_folder(self, job_id: str, selected: int) -> None:
        try:
            picture = self.chosen_picture(job_id, selected).path
        except WebuiError:  # nothing has been made yet
            picture = None
        try:
            saving.open_folder(self.services, self.tab, Path(picture) if picture else None)
        except WebuiError as error:
            gr.Warning(html.escape(str(error)))


def _infotexts(info: str) -> list[str]:
    return list(json.loads(info or "{}").get("infotexts", ()))
