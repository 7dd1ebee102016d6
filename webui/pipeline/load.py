"""The jobs that make a checkpoint ready before anyone asks for a picture, and give its memory back."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from webui.catalog.checkpoints import Checkpoint
from webui.core.errors import BadModelFile, Refused
from webui.pipeline.engine import Engine

if TYPE_CHECKING:
    from webui.jobs.context import JobContext

log = logging.getLogger(__name__)
CHOSEN = "sd_model_checkpoint"


def run(engine: Engine, name: str | None, job: JobContext) -> str:
    """Load the checkpoint of that name and return its title; the settings name it afterwards.

    None stands for the one in the settings, which stays there when it can't be loaded: nothing else is put in its place
    without a word. Where the settings name none, or one that isn't there, it stands for the first that can be loaded.
    Raises: NotFound, BadModelFile; the model loaded before stays, and the settings name that again.
    """
    if name is not None:
        try:
            return _load(engine, engine.checkpoints.find(name), job)
        except BadModelFile:
            if engine.models.current is not None:
                _settle(engine, engine.models.current)
            raise
    chosen = engine.settings.snapshot()[CHOSEN] or ""
    first = engine.checkpoints.default(chosen)
    if chosen and engine.checkpoints.is_there(chosen):
        return _load(engine, first, job)
    for checkpoint in (first, *(other for other in engine.checkpoints if other != first and not other.problem)):
        try:
            return _load(engine, checkpoint, job)
        except BadModelFile as error:
            log.warning(error)
    raise BadModelFile("None of the checkpoints can be loaded; the log says why. Add a good one and refresh the list.")


def _load(engine: Engine, checkpoint: Checkpoint, job: JobContext) -> str:
    """Its hash, which the first picture's infotext needs, is computed meanwhile on another core."""
    job.text(f"Loading {checkpoint.model_name}")
    beside = ThreadPoolExecutor(1, "hash")
    hashed = beside.submit(engine.checkpoints.hashed, checkpoint)
    beside.shutdown(wait=False)
    with engine.models.lease(checkpoint) as model:
        engine.networks.fit(model)
        _settle(engine, hashed.result())
        return hashed.result().title


def _settle(engine: Engine, checkpoint: Checkpoint) -> None:
    """Name the checkpoint in the settings, so that what a job borrows (a refiner's, a hires pass's) doesn't stay."""
    chosen = engine.settings.snapshot()[CHOSEN]
    if chosen and engine.checkpoints.default(chosen).identity == checkpoint.identity:
        return
    try:
        engine.settings.update({CHOSEN: checkpoint.title})
    except Refused:
        log.info("The settings are frozen; %s is used for this run.", checkpoint.name)


def unload(engine: Engine, payload: None, job: JobContext) -> None:
    """Give the memory of the loaded model back; the next job loads it again."""
    engine.models.unload()
