"""The clip on the page, under the labels and element ids of sd-webui-animatediff."""

from __future__ import annotations

from typing import Any

import gradio as gr

from webui.extensions.api import WebuiError

from .catalog import MotionCatalog
from .parameters import FILTERS, NO_SPARSE
from .unloading import KIND, Unload

QUIET: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}
PATIENCE = 10
"""Seconds that a button waits for its job, which comes after those that are waiting."""


def build(panel: Any, catalog: MotionCatalog) -> None:
    """One closed accordion on each form."""
    prefix = f"{panel.form}-ad"

    def place(name: str, part: str = "", **options: Any) -> Any:
        return panel.place(name, elem_id=f"{prefix}-{part or name.replace('_', '-')}", **options)

    with gr.Accordion("AnimateDiff", open=False, elem_id=prefix):
        with gr.Row():
            model = gr.Dropdown(
                catalog.names(),
                value=catalog.first(),
                label=panel.spec("model").label,
                allow_custom_value=True,
                elem_id=f"{prefix}-motion-module",
                elem_classes=["names"],
            )
            panel.use("model", model)
            refresh = gr.Button(
                "🔄", elem_id=f"{prefix}-refresh-motion-module", elem_classes=["tool"], scale=0, min_width=0
            )
        place("format", "save-format", value=list(panel.settings["animatediff_default_save_formats"]))
        with gr.Row():
            place("enable")
            place("video_length")
            place("fps")
            place("loop_number")
        with gr.Row():
            place("closed_loop")
            place("batch_size")
            place("stride")
            place("overlap")
        with gr.Row():
            place("noise")
            place("interp", "interp-choice")
            place("interp_x")
            place("video_path")
        with gr.Accordion("FreeInit", open=False, elem_id=f"{prefix}-freeinit"):
            place("freeinit_enable")
            place("freeinit_filter", choices=list(FILTERS))
            with gr.Row():
                place("freeinit_ds")
                place("freeinit_dt")
                place("freeinit_iters")
        place_sparse(panel, prefix, catalog)
        if panel.form == "img2img":
            with gr.Accordion("I2V Traditional", open=False, elem_id=f"{prefix}-i2v"):
                with gr.Row():
                    place("latent_power")
                    place("latent_scale")
                    place("latent_power_last")
                    place("latent_scale_last")
                place("last_frame")
        with gr.Row():
            to_cpu = gr.Button("Move motion module to CPU", elem_id=f"{prefix}-unload")
            remove = gr.Button("Remove motion module from any memory", elem_id=f"{prefix}-remove")
    refresh.click(lambda: gr.Dropdown(choices=catalog.names()), None, model, **QUIET)
    jobs = panel.easel.jobs
    to_cpu.click(lambda: unload(jobs, to_cpu=True), None, None, **QUIET)
    remove.click(lambda: unload(jobs, to_cpu=False), None, None, **QUIET)


def place_sparse(panel: Any, prefix: str, catalog: MotionCatalog) -> None:
    """SparseCtrl: pictures that some frames are to look like."""
    with gr.Accordion("SparseCtrl", open=False, elem_id=f"{prefix}-sparse"):
        model = gr.Dropdown(
            [NO_SPARSE, *catalog.sparse_names()],
            value=NO_SPARSE,
            label=panel.spec("sparse_model").label,
            allow_custom_value=True,
            elem_id=f"{prefix}-sparse-model",
            elem_classes=["names"],
        )
        panel.use("sparse_model", model)
        with gr.Row():
            panel.place("sparse_frames", elem_id=f"{prefix}-sparse-frames")
            panel.place("sparse_weight", elem_id=f"{prefix}-sparse-weight")
        panel.place("sparse_pictures", elem_id=f"{prefix}-sparse-pictures", height=240)


def unload(jobs: Any, *, to_cpu: bool) -> None:
    """Have it done after the jobs that wait, and tell what was done."""
    try:
        job_id = jobs.submit(KIND, Unload(to_cpu))
        ended = jobs.wait(job_id, PATIENCE).ended
        gr.Info(jobs.result(job_id).sentence if ended else "It is done once the jobs before it have ended.")
    except WebuiError as error:
        gr.Warning(str(error))
