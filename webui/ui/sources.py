"""The sub-tabs of img2img: what a picture is made from.

Gradio's editor hands over all it holds, as files, with every event of the server that takes it or returns it, and
from then on with every event at all. So it only meets events of the browser: one lays what is drawn, when it is needed
and not before, into the hidden `Sources.drawn`, and one takes up what the server left in `Sources.incoming`.
A picture chosen as a file is sent once, by Gradio, when it is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from webui.core.batch import TAKEN_FROM_PICTURES, PictureBatch
from webui.core.errors import InvalidRequest
from webui.core.request import GenerationRequest
from webui.core.settings import Settings
from webui.services.batches import BatchFolders, batch_of_files, batch_of_folder
from webui.services.drawings import Drawing, drawing_of
from webui.services.services import Services

IMG2IMG, SKETCH, INPAINT, INPAINT_SKETCH, INPAINT_UPLOAD, BATCH = MODES = (
    "img2img",
    "sketch",
    "inpaint",
    "inpaint_sketch",
    "inpaint_upload",
    "batch",
)
LABELS = ("img2img", "Sketch", "Inpaint", "Inpaint sketch", "Inpaint upload", "Batch")
TAB_IDS = (
    "img2img_img2img_tab",
    "img2img_img2img_sketch_tab",
    "img2img_inpaint_tab",
    "img2img_inpaint_sketch_tab",
    "img2img_inpaint_upload_tab",
    "img2img_batch_tab",
)
EDITORS = {SKETCH: "img2img_sketch", INPAINT: "img2maskimg", INPAINT_SKETCH: "inpaint_sketch"}
PALETTE = ("#ffffff", "#000000", "#808080", "#cc3232", "#e6a11a", "#adcc32", "#32cc70", "#3270cc", "#ad32cc")
FOLDER_HELP = (
    "<p>Works on the pictures in a directory of the machine where the server is running.<br>Leave the output "
    "directory empty to save normally instead of under the pictures' own names.<br>For inpainting add a mask "
    "directory: one mask for all, or one for each picture under its name.</p>"
)
BRUSH_OPACITY = 0.7
"""Of the brush that paints masks, so that the picture stays visible under it."""


class Sources:
    """mode: the sub-tab in use, one of MODES. drawn: the files that its editor held when they were last asked for."""

    def __init__(self, settings: Settings, *, folders: bool) -> None:
        """folders: whether the server's folders may be named."""
        self.height = settings["img2img_editor_height"]
        self.editors: dict[str, gr.ImageEditor] = {}
        self.copies: list[tuple[str, str, gr.Button]] = []
        self.mode = gr.Textbox(IMG2IMG, elem_id="img2img_mode", visible="hidden")
        self.drawn = gr.File(file_count="multiple", elem_id="img2img_drawn", visible="hidden")
        self.incoming = gr.File(elem_id="img2img_incoming", visible="hidden")
        self.send = {mode: gr.Button("Send", elem_id=f"img2img_send_{mode}", visible="hidden") for mode in EDITORS}
        with gr.Tabs(elem_id="mode_img2img"):
            with self._tab(IMG2IMG):
                self.picture = self._image("Image for img2img", "img2img_image")
                self._copy_row(IMG2IMG)
            with self._tab(SKETCH):
                self._editor(SKETCH, "Image for img2img", settings["img2img_sketch_default_brush_color"])
            with self._tab(INPAINT):
                colour = settings["img2img_inpaint_mask_brush_color"]
                self._editor(INPAINT, "Image for inpainting with mask", colour, BRUSH_OPACITY)
            with self._tab(INPAINT_SKETCH):
                colour = settings["img2img_inpaint_sketch_default_brush_color"]
                self._editor(INPAINT_SKETCH, "Color sketch inpainting", colour)
            with self._tab(INPAINT_UPLOAD):
                self.base = self._image("Image for img2img", "img_inpaint_base")
                self.mask = self._image("Mask", "img_inpaint_mask")
            with self._tab(BATCH):
                self.batch = BatchPanel(folders=folders)
        self._wire()

    @property
    def inputs(self) -> list[Component]:
        """What a job is made from."""
        return [self.mode, self.drawn, self.picture, self.base, self.mask, *self.batch.inputs]

    @property
    def by_mode(self) -> dict[str, list[Component]]:
        """The pictures that a job of each mode is made from."""
        own: dict[str, list[Component]] = {IMG2IMG: [self.picture], INPAINT_UPLOAD: [self.base, self.mask]}
        return own | {BATCH: [self.batch.files]} | {mode: [self.drawn] for mode in EDITORS}

    # Layout

    def _tab(self, mode: str) -> gr.Tab:
        index = MODES.index(mode)
        # An editor is heavy: it is made when its tab is opened for the first time.
        tab = gr.Tab(LABELS[index], id=mode, elem_id=TAB_IDS[index], render_children=mode not in EDITORS)
        tab.select(None, None, self.mode, js=f"() => easel.chooseMode('{mode}')")
        return tab

    def _image(self, label: str, elem_id: str) -> gr.Image:
        return gr.Image(
            label=label,
            show_label=elem_id != "img2img_image",
            elem_id=elem_id,
            type="filepath",
            image_mode=None,  # the file as it is
            sources=["upload", "clipboard"],
            height=self.height if elem_id == "img2img_image" else self.height // 2,
            interactive=True,
        )

    def _editor(self, mode: str, label: str, colour: str, opacity: float = 1.0) -> None:
        colours = list(dict.fromkeys([colour, *PALETTE]))
        brush: Any = (colour, opacity) if opacity < 1 else colour
        self.editors[mode] = gr.ImageEditor(
            label=label,
            show_label=False,
            elem_id=EDITORS[mode],
            type="pil",
            image_mode="RGBA",
            sources=["upload", "clipboard"],
            height=self.height,
            brush=gr.Brush(colors=[brush, *colours[1:]], default_color=brush, color_mode="defaults"),
            layers=mode == SKETCH,
            canvas_size=(512, 512),
            interactive=True,
            format="png",
        )
        self._copy_row(mode)

    def _copy_row(self, mode: str) -> None:
        with gr.Row(elem_id=f"img2img_copy_to_{mode}", elem_classes=["copy-image"]):
            gr.HTML("Copy image to: ", elem_id=f"img2img_label_copy_to_{mode}")
            for target in (IMG2IMG, *EDITORS):
                button = gr.Button(target.replace("_", " "), interactive=target != mode, min_width=60)
                self.copies.append((mode, target, button))

    # Pictures from elsewhere

    def entry(self, mode: str) -> gr.Image | gr.File:
        """Where the server puts a file that the picture or the editor of a mode is to show; `arrived` comes next."""
        return self.picture if mode == IMG2IMG else self.incoming

    def arrived(self, event: Dependency, mode: str) -> None:
        """After an event that has put a file into `entry`: show it, and the sub-tab, if all went well."""
        if mode != IMG2IMG:
            event.success(None, self.incoming, self.editors[mode], js="(file) => easel.intoEditor(file)")
        event.success(None, None, None, js=f"() => easel.showMode('{mode}')")

    # What the buttons do

    def _wire(self) -> None:
        for mode, button in self.send.items():
            drawn = button.click(None, self.editors[mode], self.drawn, js="(value) => easel.drawnFiles(value)")
            drawn.success(None, None, None, js="() => easel.drawingSent()")
            drawn.failure(None, None, None, js="() => easel.drawingLost()")
        for mode, target, button in self.copies:
            source, goal = (self.picture if name == IMG2IMG else self.editors[name] for name in (mode, target))
            copied = button.click(None, source, goal, js=f"(value) => easel.copied(value, '{mode}', '{target}')")
            copied.then(None, None, None, js=f"() => easel.showMode('{target}')")
        for component in (self.picture, self.base):
            component.change(None, None, None, js="() => window.easel?.sourceChanged()")


def drawing_in(files: Sequence[str] | None) -> Drawing | None:
    """The drawing that `Sources.drawn` holds, None for an empty editor. Raises: InvalidRequest for a damaged one."""
    try:
        pictures = {Path(file).name: Path(file).read_bytes() for file in files or ()}
    except OSError:
        raise InvalidRequest("The drawing is no longer on the server; press Generate again.") from None
    background = pictures.pop("background.png", None)
    return drawing_of(background, [pictures[name] for name in sorted(pictures)])


class BatchPanel:
    """Many pictures: uploaded, or in folders of the server."""

    def __init__(self, *, folders: bool) -> None:
        """folders: whether the server's folders may be named."""
        self.source = gr.Textbox("upload", visible="hidden")
        with gr.Tabs(elem_id="img2img_batch_source"):
            with gr.Tab("Upload", id="batch_upload", elem_id="img2img_batch_upload_tab") as upload:
                self.files = gr.File(
                    label="Files",
                    elem_id="img2img_batch_upload",
                    file_count="multiple",
                    file_types=["image"],
                    interactive=True,
                )
            with gr.Tab(
                "From directory", id="batch_from_dir", elem_id="img2img_batch_from_dir_tab", visible=folders
            ) as from_folder:
                gr.HTML(FOLDER_HELP)
                self.input = self._folder("Input directory", "img2img_batch_input_dir")
                self.output = self._folder("Output directory", "img2img_batch_output_dir")
                label = "Inpaint batch mask directory (required for inpaint batch processing only)"
                self.masks = self._folder(label, "img2img_batch_inpaint_mask_dir")
        with gr.Accordion("PNG info", open=False):
            self.uses_info = gr.Checkbox(
                False, label="Append png info to prompts", elem_id="img2img_batch_use_png_info", interactive=True
            )
            hint = "Leave empty to use input directory"
            self.infotexts = self._folder("PNG info directory", "img2img_batch_png_info_dir", hint, visible=folders)
            self.taken = gr.CheckboxGroup(
                list(TAKEN_FROM_PICTURES),
                label="Parameters to take from png info",
                info="Prompts from png info will be appended to prompts set in ui.",
                elem_id="img2img_batch_png_info_props",
                interactive=True,
            )
        upload.select(None, None, self.source, js="() => 'upload'")
        from_folder.select(None, None, self.source, js="() => 'folder'")

    @property
    def inputs(self) -> list[Component]:
        folders = [self.input, self.output, self.masks, self.infotexts]
        return [self.source, self.files, *folders, self.uses_info, self.taken]

    def batch(
        self, services: Services, request: GenerationRequest, values: Mapping[Component, Any], scale: float | None
    ) -> PictureBatch:
        """The batch that the page describes. Raises: WebuiError."""
        taken = values[self.taken] or () if values[self.uses_info] else ()
        if values[self.source] == "upload":
            return batch_of_files(services, request, [Path(file) for file in values[self.files] or ()], taken, scale)
        named = (values[component] or "" for component in (self.input, self.output, self.masks, self.infotexts))
        return batch_of_folder(services, request, BatchFolders(*named), taken, scale)

    def _folder(self, label: str, elem_id: str, hint: str = " ", *, visible: bool = True) -> gr.Textbox:
        return gr.Textbox(
            label=label, elem_id=elem_id, placeholder=hint, max_lines=1, visible=visible, interactive=True
        )
