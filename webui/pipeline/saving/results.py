"""Finished pictures saved and handed over, with what else belongs to them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from webui.core.files import write_atomic
from webui.core.grids import grid_rows, make_grid
from webui.core.request import GenerationResult
from webui.core.results import SHOWN_AS_PICTURE, Picture, ResultFile
from webui.pipeline.from_image.masks import composite
from webui.pipeline.infotext import image_infotext
from webui.pipeline.job import Job

log = logging.getLogger(__name__)


def remember(job: Job) -> None:
    """Keep the job's infotext in params.txt, before anything can go wrong, for the page's "read the last one"."""
    if job.engine.flags.no_prompt_history:
        return
    try:
        write_atomic(job.engine.paths.params_txt, image_infotext(job.plan, 0, job.report.fields).encode())
    except OSError as error:
        job.report.comment(f"The prompt can't be kept in {job.engine.paths.params_txt}: {error.strerror}.")


BEFORE: Mapping[str, tuple[str, str]] = {
    "highres_fix": ("save_images_before_highres_fix", "-before-highres-fix"),
    "face_restoration": ("save_images_before_face_restoration", "-before-face-restoration"),
}
"""What comes next -> the setting that keeps the pictures before it, and what their names end in."""


def save_before(job: Job, pictures: Sequence[Image.Image], indices: range, what: str) -> None:
    """Keep pictures as they are before something is done to them, if that is wished. what: a key of `BEFORE`."""
    setting, suffix = BEFORE[what]
    if not job.plan.settings[setting] or not job.plan.request.save_samples:
        return
    for index, picture in zip(indices, pictures, strict=True):
        text = image_infotext(job.plan, index, job.report.fields)
        job.saver.sample(picture, index, text, suffix=suffix)


def is_kept(job: Job, picture: Picture) -> bool:
    """Whether files of the picture are wished: those cut short only by setting, or when the server stops."""
    incomplete = job.plan.settings["save_incomplete_images"] or job.progress.server_stops
    return job.plan.request.save_samples and (picture.complete or incomplete)


def hand_over(job: Job, picture: Picture) -> list[ResultFile]:
    """A finished picture with what belongs to it, saved as far as that is wished."""
    if picture.role != "picture":
        return [job.saver.sample(picture.image, picture.index, "", save=False, role=picture.role)]
    save_uncorrected(job, picture)
    return [save_picture(job, picture), *mask_pictures(job, picture)]


def save_picture(job: Job, picture: Picture) -> ResultFile:
    """A picture of the job with its text, saved if that is wished and can be done."""
    text = image_infotext(job.plan, picture.index, {**job.report.fields, **picture.fields})
    save = is_kept(job, picture) and job.plan.settings["samples_save"]
    if job.plan.settings["samples_log_stdout"]:
        log.info("%s", text)
    result = job.saver.sample(picture.image, picture.index, text, save=save, source_type=picture.source_type)
    if result.path is not None:
        job.engine.host.image_saved(Path(result.path), picture.image, job.plan)
    return result


def finish_job(job: Job, result: GenerationResult) -> GenerationResult:
    """The result with the files that extensions add to it."""
    host = job.engine.host
    added = host.finish(result, job.plan, job.progress, job.report, job.state, job.saver.file)
    pictures = [item for item in added if item.role in SHOWN_AS_PICTURE]
    others = [item for item in added if item.role not in SHOWN_AS_PICTURE]
    finished = replace(
        result,
        images=(*result.images, *pictures),
        files=(*result.files, *others),
        comments=tuple(dict.fromkeys((*result.comments, *job.report.comments))),
        unsaved=job.saver.keeper.unsaved,
    )
    return host.revise_result(finished, job.plan)


def mask_pictures(job: Job, picture: Picture) -> list[ResultFile]:
    """The mask and what was painted in it, those that the settings want shown; they save them, too."""
    if picture.mask is None or picture.painted is None:
        return []
    settings, shown = job.plan.settings, []
    index = picture.index
    text = image_infotext(job.plan, index, job.report.fields)
    for kind, suffix in (("mask", "-mask"), ("mask_composite", "-mask-composite")):
        kept, returned = settings[f"save_{kind}"] and is_kept(job, picture), settings[f"return_{kind}"]
        if not kept and not returned:
            continue
        made = picture.mask.convert("RGB") if kind == "mask" else composite(picture.painted, picture.mask)
        if kept:
            job.saver.sample(made, index, text, suffix=suffix)
        if returned:
            shown.append(job.saver.sample(made, index, "", save=False, role="mask"))
    return shown


def save_uncorrected(job: Job, picture: Picture) -> None:
    """Keep the picture as it was before colour correction, if that is wished."""
    wanted = is_kept(job, picture) and job.plan.settings["save_images_before_color_correction"]
    if wanted and picture.uncorrected is not None:
        text = image_infotext(job.plan, picture.index, job.report.fields)
        job.saver.sample(picture.uncorrected, picture.index, text, suffix="-before-color-correction")


def with_grid(
    job: Job, pictures: Sequence[Image.Image], results: list[ResultFile], source_type: str
) -> list[ResultFile]:
    """The results, a grid of the pictures in front if that is wished."""
    settings = job.plan.settings
    if not (settings["return_grid"] or settings["grid_save"]):
        return results
    rows = grid_rows(len(pictures), job.plan.request.batch_size, settings)
    grid = make_grid(pictures, rows, settings["grid_background_color"])
    text = image_infotext(job.plan, 0, job.report.fields)
    saved = job.saver.grid(grid, text, save=job.plan.request.save_grid, source_type=source_type)
    return [saved, *results] if settings["return_grid"] else results
