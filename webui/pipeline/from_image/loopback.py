"""The job that feeds img2img its own results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import Image

from webui.core.pictures import decoded_picture, encode_image
from webui.core.request import FromImage, GenerationResult, Loopback
from webui.core.results import ResultFile
from webui.pipeline.engine import Engine
from webui.pipeline.from_image.image_input import flattened
from webui.pipeline.from_image.source import ORIGINAL
from webui.pipeline.generate import begin, make_pictures
from webui.pipeline.infotext import image_infotext
from webui.pipeline.job import Job
from webui.pipeline.postprocess import make_grid
from webui.pipeline.report import job_info
from webui.pipeline.saving.results import finish_job
from webui.planning.plan import GenerationPlan

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

CURVES: Mapping[str, Callable[[float], float]] = {
    "Aggressive": lambda way: math.sin(way * math.pi / 2),
    "Linear": lambda way: way,
    "Lazy": lambda way: 1 - math.cos(way * math.pi / 2),
}


@dataclass(frozen=True)
class Loop:
    """One loop that is done."""

    job: Job
    picture: Image.Image
    result: ResultFile


def run(engine: Engine, plan: GenerationPlan, progress: JobContext) -> GenerationResult:
    """Each loop begins with the last one's picture, a seed higher; each batch with the request's picture again.

    plan: of the whole request, whose first seeds are those of the first loop.
    One batch hands back the pictures of all its loops, several the last one of each.
    """
    started = time.monotonic()
    variation = plan.request.variation.replace(seed=plan.subseeds[0])
    request = plan.request.replace(seed=plan.seeds[0], variation=variation)
    loopback, image = request.loopback, request.image
    assert loopback is not None
    assert image is not None
    image = image.replace(noise_multiplier=plan.first.noise_multiplier)  # which the settings' overrides don't change
    progress.begin_passes(loopback.loops * request.batch_count)
    jobs: list[Job] = []
    kept: list[Loop] = []
    single = request.replace(loopback=None, batch_size=1, batch_count=1)
    for _ in range(request.batch_count):
        source, loops = image, []
        for number in range(loopback.loops):
            if jobs and (progress.interrupted or progress.stopping or jobs[-1].saver.keeper.out_of_space):
                break
            strength = denoising_strength(loopback, image.denoising_strength, number)
            asked = single.replace(image=source.replace(denoising_strength=strength))
            if jobs:
                asked = asked.replace(seed=jobs[-1].plan.seeds[0] + 1)
            own = engine.planner.replan(asked, plan.settings)
            jobs.append(_begun(engine, own, progress, loopback, image))
            made = make_pictures(jobs[-1])
            if not made.pictures:  # stopped before it was decoded, or an extension dropped it
                break
            loops.append(Loop(jobs[-1], made.pictures[0], made.results[0]))
            source = _started_from(image, made.pictures[0])
        if not loops:
            break
        kept += loops if request.batch_count == 1 else loops[-1:]
    return _result(jobs[0], kept, time.monotonic() - started)


def denoising_strength(loopback: Loopback, first: float, loop: int) -> float:
    """Of loop 0, 1, ...: from the request's own to the final one along the curve."""
    if loopback.loops == 1:
        return first
    way = CURVES[loopback.curve](loop / (loopback.loops - 1))
    return first + (loopback.final_denoising_strength - first) * way


def _begun(engine: Engine, plan: GenerationPlan, progress: JobContext, loopback: Loopback, original: FromImage) -> Job:
    """The job of one loop; colours are corrected to the picture that the first loop starts from."""
    fields = {
        "Final denoising strength": loopback.final_denoising_strength,
        "Denoising curve": loopback.curve,
    }
    job = begin(engine, plan, progress, fields)
    settings = job.plan.settings
    if not settings["img2img_color_correction"]:
        return job
    target = flattened(decoded_picture(original.images[0]), settings["img2img_background_color"])
    return replace(job, color_target=target)


def _started_from(image: FromImage, picture: Image.Image) -> FromImage:
    """What the next loop starts from: the picture, whose masked part is already painted."""
    inpaint = image.inpaint.replace(fill=ORIGINAL) if image.inpaint else None
    return image.replace(images=(encode_image(picture, "png", None),), inpaint=inpaint)


def _result(first: Job, kept: Sequence[Loop], seconds: float) -> GenerationResult:
    """All pictures, a grid of one row in front; told under the first loop's text, as A1111 does."""
    settings = first.plan.settings
    text = image_infotext(first.plan, 0, first.report.fields)
    results = [loop.result for loop in kept]
    if len(kept) > 1 and (settings["return_grid"] or settings["grid_save"]):
        grid = make_grid([loop.picture for loop in kept], 1, settings["grid_background_color"])
        saved = first.saver.grid(grid, text, save=first.plan.request.save_grid)
        results = [saved, *results] if settings["return_grid"] else results
    info = {
        **job_info(first, results),
        "infotexts": [text for _ in results],
        "all_seeds": [loop.job.plan.seeds[0] for loop in kept],
        "all_subseeds": [loop.job.plan.subseeds[0] for loop in kept],
    }
    comments = dict.fromkeys(comment for loop in kept for comment in loop.job.report.comments)
    unsaved = next((loop.job.saver.keeper.unsaved for loop in reversed(kept) if loop.job.saver.keeper.unsaved), None)
    unsaved = unsaved or first.saver.keeper.unsaved
    return finish_job(first, GenerationResult(tuple(results), info, tuple(comments), seconds, unsaved))
