"""The job of a training: everything around the loop, from opening the model to the last file."""

from __future__ import annotations

import importlib
import json
from contextlib import ExitStack
from typing import Any

import torch

from webui.catalog.vaes import VaeUse
from webui.core.errors import InvalidRequest, not_saved
from webui.core.files import write_atomic
from webui.core.training import LOG_NAME, TrainingResult
from webui.core.training_data import TrainingData
from webui.jobs.context import JobContext
from webui.models.devices import is_out_of_memory
from webui.models.families.base import LoadedModel
from webui.pipeline.engine import Engine
from webui.pipeline.focal_crop import focal_crop
from webui.planning.training import TrainingPlan, board_comments, open_training_data, require_precision
from webui.training.board import Board
from webui.training.latents import LatentShelf
from webui.training.loop import STATE_NAME, Loop
from webui.training.loss import Objective
from webui.training.sampling import SampleMaker, make_class_pictures
from webui.training.trainee import Trainee

TRAINEES = {
    "lora": "webui.training.lora:LoraTrainee",
    "dreambooth": "webui.training.dreambooth:DreamBoothTrainee",
    "embedding": "webui.training.embedding:EmbeddingTrainee",
    "hypernetwork": "webui.training.hypernetwork:HypernetworkTrainee",
}
SETTINGS_NAME = "settings.txt"
CLASS_SHARE = 0.3
"""Of the job's progress, for class pictures that are to be made first."""


def run(engine: Engine, plan: TrainingPlan, job: JobContext) -> TrainingResult:
    """Train, and save what was learned, also of a training that is stopped on the way.

    Raises: WebuiError; what was saved stays, and so does the state that the job goes on from.
    """
    request = plan.request
    require_precision(request.numerics.mixed_precision, engine.models.placement.device.type)
    work = job
    if request.kind == "dreambooth" and request.dreambooth.class_dir:
        make_class_pictures(plan, job.child(CLASS_SHARE), job.text)
        work = job.child(1 - CLASS_SHARE)
        if job.interrupted or job.stopping:
            return TrainingResult((), 0, plan.steps, None, "The training was stopped before its first step.")
    crop_comments: dict[str, None] = {}
    focus = focal_crop(engine, plan.settings, job, crop_comments.setdefault) if plan.data.crop == "focal" else None
    data = open_training_data(request, plan.seed, sdxl=plan.family == "sdxl", data=plan.data, focus=focus)
    kind = trainee_class(request.kind)
    if plan.settings["save_training_settings_to_txt"]:
        _write_settings(plan)
    with ExitStack() as open_things:
        job.text("Loading the checkpoint")
        dtype = _dtype(plan) if kind.halves else torch.float32
        model = open_things.enter_context(engine.models.workshop(plan.checkpoint, _parts(kind, plan), dtype))
        if plan.vae is not None:
            open_things.enter_context(engine.vae_shelf.used(model, VaeUse(file=plan.vae)))
        _prepare(model, plan)
        trainee = kind(plan, model)
        open_things.callback(trainee.close)
        sampler = SampleMaker(plan, trainee, engine)
        loop = Loop(
            plan=plan,
            model=model,
            trainee=trainee,
            data=data,
            shelf=_latents(engine, plan, model),
            objective=Objective(request.loss, model.alphas_cumprod, model.capabilities.prediction or "eps"),
            sample=sampler if plan.samples else None,
            board=_open_board(plan, open_things),
        )
        job.artifact(plan.folder / LOG_NAME)
        try:
            finished = loop.run(work)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise InvalidRequest(_out_of_memory(plan)) from error
        if job.server_stops:
            loop.write_state()
            return _result(loop, plan, "")
        job.text("Saving")
        loop.write_state()
        loop.save(plan.target)
    (plan.folder / STATE_NAME).unlink(missing_ok=True)
    comments = [*sampler.comments, *crop_comments, *board_comments(plan.settings)]
    engine.checkpoints.refresh()
    engine.networks.catalogs.refresh()
    return _result(loop, plan, _message(loop, plan, data, finished, comments))


def _open_board(plan: TrainingPlan, open_things: ExitStack) -> Board | None:
    """None where none is wanted, and where it was told that there can be none."""
    if not plan.on_board:
        return None
    board = Board(plan)
    open_things.callback(board.close)
    return board


def _write_settings(plan: TrainingPlan) -> None:
    """What was asked for, beside the log. Raises: NotSaved."""
    told = {"checkpoint": plan.checkpoint.title, "seed": plan.seed, **plan.request.model_dump(mode="json")}
    try:
        write_atomic(plan.folder / SETTINGS_NAME, json.dumps(told, indent=2, ensure_ascii=False).encode())
    except OSError as error:
        raise not_saved(f"The training's settings can't be written in {plan.folder}", error) from error


def _out_of_memory(plan: TrainingPlan) -> str:
    return (
        f"The training ran out of memory: it needs about {plan.memory.total / 1e9:.1f} GB. Turn gradient checkpointing "
        "on, lower the batch size or the resolution, or take mixed precision or an 8-bit optimizer."
    )


def trainee_class(kind: str) -> type[Trainee]:
    module, _, name = TRAINEES[kind].partition(":")
    found: type[Trainee] = getattr(importlib.import_module(module), name)
    return found


def _parts(kind: type[Trainee], plan: TrainingPlan) -> tuple[str, ...]:
    """Which of the model's own weights learn in any phase."""
    learns = {
        "unet": any(phase.unet_lr for phase in plan.phases),
        "text_encoders": any(phase.text_lr for phase in plan.phases),
    }
    return tuple(part for part in kind.parts if learns[part])


def _dtype(plan: TrainingPlan) -> torch.dtype:
    """Of weights that stay as they are."""
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(plan.request.numerics.mixed_precision, torch.float32)


def _prepare(model: LoadedModel, plan: TrainingPlan) -> None:
    if plan.request.numerics.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
        model.unet.train()  # it is used in training mode alone
        for module in (encoder.module for encoder in model.text_encoders if encoder.module.training):
            module.gradient_checkpointing_enable()


def _latents(engine: Engine, plan: TrainingPlan, model: LoadedModel) -> LatentShelf:
    numerics = plan.request.numerics
    vae = plan.vae.identity if plan.vae else plan.checkpoint.identity
    folder = engine.paths.cache / "latents" if numerics.cache_latents_to_disk else None
    keep = numerics.cache_latents or folder is not None
    return LatentShelf(model.vae, vae, plan.request.loss.latent_sampling, keep, folder)


def _message(loop: Loop, plan: TrainingPlan, data: TrainingData, finished: bool, comments: list[str]) -> str:
    name = plan.target.name
    first = (
        f"{name} is trained: {loop.place.total} steps, {loop.place.epoch} epochs."
        if finished
        else f"The training was stopped at step {loop.place.total} of {plan.steps}; what it had learned is in {name}."
    )
    return " ".join([first, *comments])


def _result(loop: Loop, plan: TrainingPlan, message: str) -> TrainingResult:
    losses: list[Any] = loop.place.losses
    return TrainingResult(
        files=tuple(loop.files),
        steps=loop.place.total,
        planned=plan.steps,
        loss=sum(losses) / len(losses) if losses else None,
        message=message,
        samples=tuple(loop.samples),
        log=str(plan.folder / LOG_NAME),
    )
