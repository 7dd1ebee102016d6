"""The panel on the generation tabs: Main, Detection, Upscale, Tools and Settings, under ReActor's labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from webui.extensions.api import InvalidRequest, WebuiError

from . import face_models
from .kinds import FORGET, LOOK, MODEL, Forget, Look, Model
from .parameters import NO_MODEL, SWAPPER, Swap
from .swapping import LICENCE, swappers_in

NOTE = (
    "<p>Exchange only faces of people who agreed to it, and say so where others see the pictures. What is made here is "
    "marked in the files' metadata as put together by a trained network. By default a small network looks at each "
    "picture first and leaves explicit ones as they are; Settings &gt; ReActor switches that off.</p>"
)
TABS = ("txt2img", "img2img")
QUIET: dict[str, Any] = {"show_progress": "minimal"}


def build(panel: Any) -> None:
    easel = panel.easel
    models = easel.paths.models
    name = f"{panel.form}_reactor"
    with panel.enabling_accordion("enabled", "ReActor", name):
        if panel.settings["reactor_note"] and panel.form in TABS:
            note_on_consent(easel, name)
        if not swappers_in(models):
            gr.HTML(f"<p>There is no swapper yet: put {SWAPPER} into models/insightface. {LICENCE}.</p>")
        with gr.Tabs(elem_id=f"{name}_tabs"):
            with gr.Tab("Main", render_children=True):
                face_model = main_tab(panel, name)
            with gr.Tab("Detection", render_children=True):
                detection_tab(panel, name)
            if panel.form in TABS:  # frames of a video keep their size
                with gr.Tab("Upscale", render_children=True):
                    upscale_tab(panel)
                with gr.Tab("Tools", render_children=True):
                    tools_tab(easel, name, face_model)
            with gr.Tab("Settings", render_children=True):
                settings_tab(panel, name)


def upscale_tab(panel: Any) -> None:
    with gr.Row():
        panel.place("restore_first")
        panel.place("upscale_force")
    panel.place("upscaler_name")
    with gr.Row():
        panel.place("upscaler_scale")
        panel.place("upscaler_visibility")


def note_on_consent(easel: Any, name: str) -> None:
    note = gr.HTML(NOTE, elem_id=f"{name}_note")
    understood = gr.Button("Understood", size="sm", elem_id=f"{name}_understood")

    def hide() -> tuple[Any, Any]:
        easel.settings.update({"reactor_note": False})
        return gr.HTML(visible=False), gr.Button(visible=False)

    understood.click(hide, None, [note, understood], show_progress="hidden")


def main_tab(panel: Any, name: str) -> gr.Dropdown:
    models = panel.easel.paths.models
    panel.place("select_source")
    with gr.Tabs(elem_id=f"{name}_sources"):
        with gr.Tab("Single", id="tab_single", render_children=True) as single:
            panel.place("img")
        with gr.Tab("Multiple", id="tab_multiple", render_children=True) as multiple:
            panel.place("imgs")
    tab = panel.place("tab", visible="hidden", value="tab_single")
    for chosen, key in ((single, "tab_single"), (multiple, "tab_multiple")):
        chosen.select(None, None, tab, js=f"() => '{key}'")
    with gr.Row():
        listed = [NO_MODEL, *face_models.names_in(models)]
        face_model = gr.Dropdown(
            listed,
            value=NO_MODEL,
            label="Choose Face Model",
            allow_custom_value=True,
            elem_id=f"{name}_face_model",
            elem_classes=["names"],
        )
        panel.use("face_model", face_model)
        refresh = gr.Button("Refresh", scale=0, elem_id=f"{name}_face_model_refresh")
        refresh.click(lambda: listed_models(models), None, face_model, show_progress="hidden")
    with gr.Row():
        panel.place("source_folder")
        panel.place("random_image")
    with gr.Row():
        panel.place("save_original")
        panel.place("mask_face")
        panel.place("keep_covered")
        panel.place("match_colors")
        panel.place("side")
    for which, index in (("source", "source_faces_index"), ("target", "faces_index")):
        with gr.Row():
            panel.place(index)
            panel.place(f"gender_{which}")
            panel.place(f"order_{which}")
    panel.place("face_restorer_name")
    with gr.Row():
        panel.place("face_restorer_visibility")
        panel.place("codeformer_weight")
    with gr.Row():
        panel.place("swap_in_source", visible=panel.form != "txt2img")
        panel.place("swap_in_generated", visible=panel.form != "txt2img")
    return face_model


def listed_models(models: Path, chosen: str = NO_MODEL) -> Any:
    return gr.Dropdown(choices=[NO_MODEL, *face_models.names_in(models)], value=chosen)


def detection_tab(panel: Any, name: str) -> None:
    easel = panel.easel
    with gr.Row():
        threshold = panel.place("det_thresh")
        most = panel.place("det_maxnum")
    if panel.form not in TABS:
        return
    said = gr.HTML(elem_id=f"{name}_faces")
    with gr.Row():
        look = gr.Button("Look at the source's faces", elem_id=f"{name}_look")
        clear_source = gr.Button("Clear Source Images Hash", elem_id=f"{name}_clear_source")
        clear_target = gr.Button("Clear Target Image Hash", elem_id=f"{name}_clear_target")
    fields = {key: panel.placed(key) for key in ("img", "gender_source", "order_source")}

    def found(image: str | None, gender: str, order: str, det_thresh: float, det_maxnum: int) -> str:
        def submit() -> str:
            values = {"gender_source": gender, "order_source": order}
            options = Swap.checked(**values, det_thresh=det_thresh, det_maxnum=det_maxnum)
            return str(easel.jobs.submit(LOOK, Look(content_of(image), options)))

        return told(easel, submit)

    look.click(found, [*fields.values(), threshold, most], said, **QUIET)
    for button, which in ((clear_source, "source"), (clear_target, "target")):
        button.click(forgetting(easel, which), None, said, **QUIET)


def tools_tab(easel: Any, name: str, face_model: gr.Dropdown) -> None:
    models = easel.paths.models
    with gr.Tab("Face Models", render_children=True), gr.Tabs():
        with gr.Tab("Single", render_children=True):
            image = gr.Image(
                label="Picture", type="filepath", image_mode=None, height=240, sources=["upload", "clipboard"],
                interactive=True, elem_id=f"{name}_model_image",
            )  # fmt: skip
            single_name = gr.Textbox(label="Face Model Name", max_lines=1, elem_id=f"{name}_model_name")
            single = gr.Button("Build and Save", elem_id=f"{name}_model_build")
        with gr.Tab("Blend", render_children=True):
            images = gr.File(
                label="Pictures", file_count="multiple", file_types=["image"], elem_id=f"{name}_blend_images"
            )
            method = gr.Radio(
                face_models.METHODS, value=face_models.MEAN, label="Compute Method", elem_id=f"{name}_method"
            )
            check = gr.Button("Check", elem_id=f"{name}_blend_check")
            blend_name = gr.Textbox(label="Face Model Name", max_lines=1, elem_id=f"{name}_blend_name")
            blend = gr.Button("Build and Save", elem_id=f"{name}_blend_build")
    said = gr.HTML(elem_id=f"{name}_model_said")

    def built(paths: Sequence[str], name: str, method: str, save: bool = True) -> str:
        def submit() -> str:
            if not paths:
                raise InvalidRequest("There is no picture; load one first.")
            if save and not name.strip():
                raise InvalidRequest("The face model has no name; give it one.")
            pictures = tuple(content_of(path) for path in paths)
            return str(easel.jobs.submit(MODEL, Model(pictures, name, method, save)))

        return told(easel, submit)

    def build_single(path: str | None, name: str) -> tuple[str, Any]:
        return built([path] if path else [], name, face_models.MEAN), listed_models(models)

    def build_blend(paths: Sequence[str] | None, name: str, method: str) -> tuple[str, Any]:
        return built(paths or [], name, method), listed_models(models)

    single.click(build_single, [image, single_name], [said, face_model], **QUIET)
    blend.click(build_blend, [images, blend_name, method], [said, face_model], **QUIET)
    check.click(lambda paths, method: built(paths or [], "", method, save=False), [images, method], said, **QUIET)


def settings_tab(panel: Any, name: str) -> None:
    easel = panel.easel
    panel.place("device")
    with gr.Row():
        files = swappers_in(easel.paths.models)
        listed = sorted({SWAPPER, *files})
        swapper = gr.Dropdown(
            listed,
            value=SWAPPER if SWAPPER in files or not files else files[0],
            label="Model",
            allow_custom_value=True,
            elem_id=f"{name}_model",
            elem_classes=["names"],
        )
        panel.use("model", swapper)
        refresh = gr.Button("Refresh", scale=0, elem_id=f"{name}_model_refresh")
        refresh.click(
            lambda: gr.Dropdown(choices=swappers_in(easel.paths.models) or [SWAPPER]),
            None,
            swapper,
            show_progress="hidden",
        )
    if panel.form not in TABS:
        return
    panel.place("console_log_level")
    with gr.Row():
        panel.place("source_hash_check")
        panel.place("target_hash_check")
    said = gr.HTML(elem_id=f"{name}_released")
    release = gr.Button("Release memory", elem_id=f"{name}_release")
    release.click(forgetting(easel, ""), None, said, **QUIET)
    gr.HTML(f"<p>{LICENCE}; nor are insightface's buffalo_l and CodeFormer, which are for non-commercial use, too.</p>")


def forgetting(easel: Any, which: str) -> Callable[[], str]:
    return lambda: told(easel, lambda: str(easel.jobs.submit(FORGET, Forget(which))))


def told(easel: Any, submit: Callable[[], str]) -> str:
    """What the job that `submit` queues says when it has ended, or why there is none."""
    try:
        return f"<p>{escape(easel.jobs.result(submit(), timeout=None).message)}</p>"
    except WebuiError as error:
        return f'<p class="error">{escape(str(error))}</p>'


def content_of(path: str | None) -> bytes:
    """Raises: InvalidRequest."""
    if not path:
        raise InvalidRequest("There is no picture; load one first.")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest("The picture is no longer on the server; load it again.") from error
