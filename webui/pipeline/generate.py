"""The job that turns a request into pictures: plan, encode, sample, decode, postprocess, save."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from webui.core.errors import InvalidRequest
from webui.core.pictures import decoded_picture, flattened, require_memory
from webui.core.request import FromImage, GenerationResult
from webui.core.results import COMPOSITE, GENERATED, Picture, ResultFile
from webui.models.families.base import LoadedModel
from webui.models.stopping import Patience, Stopped, stoppable
from webui.pipeline.economy import enduring
from webui.pipeline.engine import Engine
from webui.pipeline.faces import restore_faces
from webui.pipeline.fit import idle_wishes
from webui.pipeline.from_image.blending import with_original
from webui.pipeline.from_image.compositing import composed
from webui.pipeline.from_image.image_input import pixels_hash
from webui.pipeline.from_image.source import BLANK_MASK, Source, encoded, inpaint_fields, make_canvas, make_masking
from webui.pipeline.job import Job, Report
from webui.pipeline.latents import upscaled
from webui.pipeline.limits import require_machine
from webui.pipeline.networks import forget_networks
from webui.pipeline.opening import open_pass, open_refiner
from webui.pipeline.passes import Pass, PassKind
from webui.pipeline.postprocess import cropped_to, resized, to_image, to_tensor
from webui.pipeline.readiness import made_ready
from webui.pipeline.refiner import Refiner, refines
from webui.pipeline.report import job_info
from webui.pipeline.sampling import sample
from webui.pipeline.saving.results import finish_job, hand_over, remember, save_before, with_grid
from webui.pipeline.saving.saver import Saver
from webui.pipeline.upscaling import Enlarger
from webui.planning.plan import GenerationPlan, HiresPlan

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

log = logging.getLogger(__name__)

OUT_OF_SPACE = "The job ended after {made} of {asked} pictures, as no disk has room for more."
DECODING_SECONDS = 5.0
"""How long an interrupted job may go on decoding what it has sampled."""


def run(engine: Engine, plan: GenerationPlan, progress: JobContext) -> GenerationResult:
    """Make every picture of the plan. An interrupted job returns what it has.

    Raises: WebuiError for what the user can mend.
    """
    return replace(produced(engine, plan, progress), pictures=())


def produced(engine: Engine, plan: GenerationPlan, progress: JobContext) -> GenerationResult:
    """As `run`, with the pictures themselves."""
    started = time.monotonic()
    try:
        job = begin(engine, plan, progress)
    except Stopped:
        return GenerationResult((), {}, ("The job was stopped before it began.",), time.monotonic() - started)
    progress.begin_passes(len(job.plan.batches) * (2 if job.plan.hires else 1))
    made = make_pictures(job)
    results = made.results
    if len(made.pictures) >= (2 if plan.settings["grid_only_if_multiple"] else 1) and plan.request.save_grid:
        results = with_grid(job, made.pictures, results, made.source_type)
    comments, seconds = tuple(job.report.comments), time.monotonic() - started
    unsaved = job.saver.keeper.unsaved
    result = GenerationResult(tuple(results), job_info(job, results), comments, seconds, unsaved)
    return finish_job(job, replace(result, pictures=tuple(made.pictures)))


@dataclass
class Made:
    """Finished pictures, and what is handed over of them: masks may stand between.

    source_type: how a grid of them came about.
    """

    pictures: list[Image.Image] = field(default_factory=list)
    results: list[ResultFile] = field(default_factory=list)
    source_type: str = GENERATED


def begin(engine: Engine, plan: GenerationPlan, progress: JobContext) -> Job:
    """The job with all that it needs, and what img2img starts from."""
    plan, comments = made_ready(engine, plan)
    require_machine(plan, engine.models.placement.device)
    report = Report(comments=comments)
    for remark in plan.request.remarks:
        report.comment(remark)
    saver = Saver(plan, engine.paths, progress.progress.job_timestamp, engine.provenance, report.comment)
    job = Job(engine, plan, progress, saver, report)
    for use in plan.vaes.values():
        if use.note:
            job.report.comment(use.note)
    for sentence in idle_wishes(plan.request, plan, engine.settings.snapshot()):
        job.report.comment(sentence)
    if plan.request.image is not None:
        job = replace(job, source=starting_point(job, plan.request.image), color_reference=color_reference(plan))
    remember(job)
    if plan.settings["enable_console_prompts"]:
        log.info("%s: %s", plan.request.mode, plan.request.prompt)
    return job


def starting_point(job: Job, image: FromImage) -> Source:
    """The pictures and the mask that the request gives, brought to size and encoded."""
    plan, report = job.plan, job.report
    require_memory(named_pictures(image))
    inputs = [decoded_picture(data, f"Picture {number}") for number, data in enumerate(image.images, start=1)]
    if plan.settings["save_init_img"]:
        for picture in inputs:
            report.fields["Init image hash"] = pixels_hash(picture)
            job.saver.input_picture(picture, pixels_hash(picture))
    inputs = job.engine.host.revise_inputs(inputs, plan, job.engine.models, job.progress, report, job.state)
    masking = None
    if image.inpaint is not None:
        masking = make_masking(plan, image.inpaint)
        if masking is None:
            report.comment(BLANK_MASK)
        shown = inpaint_fields(image.inpaint, masking)
        report.fields.update({key: value for key, value in shown.items() if value is not None})
    canvas = make_canvas(plan, inputs, masking, enlarger(job, plan.settings["upscaler_for_img2img"]))
    with (
        job.engine.prepared(plan.first.checkpoint, plan) as model,
        stoppable(model.vae.module, lambda: job.progress.interrupted),
    ):
        return encoded(canvas, plan, model)


def enlarger(job: Job, upscaler: str | None) -> Enlarger:
    """The upscaler of that name at work for this job. Raises: InvalidRequest for an unknown one."""
    engine = job.engine
    return Enlarger(engine.choices.find_upscaler(upscaler), job.plan.settings, engine.models, job.progress)


def color_reference(plan: GenerationPlan) -> Image.Image | None:
    """The picture whose colours all results take over, if there is a common one."""
    image = plan.request.image
    if image is None or image.color_reference is None or not plan.settings["img2img_color_correction"]:
        return None
    picture = decoded_picture(image.color_reference, "The picture for colours")
    return flattened(picture, plan.settings["img2img_background_color"])


def named_pictures(image: FromImage) -> Iterator[tuple[str, bytes]]:
    """(name, file) of all pictures and masks that are decoded for one job."""
    for number, data in enumerate(image.images, start=1):
        yield f"Picture {number}", data
    if image.inpaint is not None:
        yield "The mask", image.inpaint.mask
        if image.inpaint.latent_mask is not None:
            yield "latent_mask", image.inpaint.latent_mask


def make_pictures(job: Job) -> Made:
    """All batches, one after the other, until the job is told to stop or nothing more can be saved."""
    made, progress = Made(), job.progress
    with job.engine.models.economy() as economy:
        for indices in job.plan.batches:
            if progress.interrupted or (progress.stopping and made.pictures):
                break
            if job.saver.keeper.out_of_space:
                job.report.comment(OUT_OF_SPACE.format(made=len(made.pictures), asked=len(job.plan.seeds)))
                break
            try:
                pictures = enduring(job, economy, partial(make_batch, job, indices))
            except Stopped:
                job.report.comment("The job was stopped while its picture was being decoded: there is none.")
                break
            for picture in pictures:
                made.results += hand_over(job, picture)
                if picture.role == "picture":
                    made.pictures.append(picture.image)
                    if picture.source_type == COMPOSITE:
                        made.source_type = COMPOSITE
    return made


def make_batch(job: Job, indices: range) -> list[Picture]:
    """The pictures of one batch, through both passes."""
    plan, progress = job.plan, job.progress
    forget_networks(job)
    first = indices[0] % plan.request.batch_size
    source = job.source.part(first, first + len(indices)) if job.source else None
    with ExitStack() as models:
        latents, this_pass = run_pass(job, "source" if source else "first", indices, models, source)
        complete = progress.completes_pass
        progress.next_pass()
        if plan.hires is None or not complete:
            if plan.hires is not None:
                progress.next_pass()  # the one left out
            images = with_restored_faces(job, decode(latents, this_pass.model, progress), indices)
            pictures = composed(images, latents, source, plan, job.color_reference)
            return finish_batch(job, this_pass, pictures, complete)
        before = None
        if not plan.hires.is_latent or plan.settings["save_images_before_highres_fix"]:
            before = decode(latents, this_pass.model, progress)
            save_before(job, before, indices, "highres_fix")
    with ExitStack() as models:
        model = models.enter_context(job.engine.prepared(plan.hires.sampling.checkpoint, plan))
        source = enlarged(job, plan.hires, latents, before, model, indices)
        latents, this_pass = run_pass(job, "hires", indices, models, source)
        complete = progress.completes_pass
        progress.next_pass()
        images = with_restored_faces(job, decode(latents, this_pass.model, progress), indices)
        pictures = [Picture(image) for image in images]
        return finish_batch(job, this_pass, pictures, complete)


def run_pass(
    job: Job, kind: PassKind, indices: range, models: ExitStack, source: Source | None = None
) -> tuple[Tensor, Pass]:
    """Sample one pass. Returns: its latents (B, C, h, w), and the pass that ended it, whose model decodes them.

    models: keeps the models of the pass until its end; a refiner's too. source: what it starts from beside noise.
    """
    this_pass, parts = open_pass(job, kind, indices, source, models)
    refiner = None
    if job.plan.refiner is not None and refines(job.plan, kind):
        relieve = partial(open_refiner, job, job.plan.refiner, this_pass, parts.noise, models)
        refiner = Refiner(job.plan.refiner, relieve)
    sample_pass = job.engine.host.wrap_sampling(partial(sample, this_pass, refiner), this_pass)
    latents = with_original(sample_pass(parts), parts.start, source, job.plan.soft_inpainting)
    return latents, refiner.last_pass(this_pass) if refiner else this_pass


def finish_batch(job: Job, this_pass: Pass, pictures: Sequence[Picture], complete: bool) -> list[Picture]:
    """What extensions make of a batch's pictures, each by itself and then all together."""
    host, finished = job.engine.host, []
    for index, picture in zip(this_pass.indices, pictures, strict=True):
        image = host.postprocess_image(picture.image, job.plan)
        finished.append(replace(picture, image=image, index=index, complete=complete))
    return host.finish_batch(finished, this_pass)


def decode(latents: Tensor, model: LoadedModel, progress: JobContext) -> list[Image.Image]:
    """Pictures from latents (B, C, h, w), one after the other. Raises: Stopped, some time after an interruption."""
    patience = Patience(lambda: progress.interrupted, DECODING_SECONDS)
    with torch.inference_mode(), stoppable(model.vae.module, patience.is_over):
        return [to_image(decoded) for decoded in model.decode(latents)]


def with_restored_faces(job: Job, images: list[Image.Image], indices: range) -> list[Image.Image]:
    """The decoded pictures, their faces restored if that is wished and can be done; else why not is told."""
    name, models = job.plan.face_restorer, job.engine.models
    if name is None:
        return images
    try:
        restorer = job.engine.choices.find_face_restorer(name)
    except InvalidRequest as error:
        job.report.comment(f"Faces were not restored. {error}")
        return images
    save_before(job, images, indices, "face_restoration")
    job.report.fields["Face restoration"] = restorer.name
    weight = job.plan.settings["code_former_weight"]
    restored = [restore_faces(image, restorer, models, weight) for image in images]
    if job.plan.settings["face_restoration_unload"]:
        models.forget("face restorer")
    return restored


def enlarged(
    job: Job,
    hires: HiresPlan,
    latents: Tensor,
    before: Sequence[Image.Image] | None,
    model: LoadedModel,
    indices: range,
) -> Source:
    """The first pass at the second one's size, in latents or by way of pictures."""
    plan = job.plan
    shows_picture = model.capabilities.input_kind == "inpaint" and plan.settings["inpainting_mask_weight"] < 1
    if hires.is_latent:
        bigger = upscaled(latents, hires)
        with torch.inference_mode():
            return Source(bigger, model.decode(bigger) if shows_picture else None)
    assert before is not None, "an image upscaler needs the decoded pictures"
    target = hires.sampling
    grown = enlarger(job, hires.upscaler)
    images = [resized(image, grown, hires.upscale_width, hires.upscale_height) for image in before]
    cut = [to_tensor(cropped_to(image, target.width, target.height))[None].to(model.device) for image in images]
    seeds = plan.seeds_of(indices)
    with torch.inference_mode():
        encoded_images = [
            model.encode(image, torch.Generator().manual_seed(seed)) for image, seed in zip(cut, seeds, strict=True)
        ]
    # A1111 shows an inpainting model these pictures with levels of 0..1 in place of -1..1.
    pictures = (torch.cat(cut) + 1) / 2 if shows_picture else None
    return Source(torch.cat(encoded_images).float(), pictures)
