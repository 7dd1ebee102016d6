"""A plan that has waited, held against the files as they are when its turn comes."""

from __future__ import annotations

from dataclasses import replace

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.vaes import VaeUse
from webui.core.errors import NotFound
from webui.pipeline.engine import Engine
from webui.planning.plan import GenerationPlan


def made_ready(engine: Engine, plan: GenerationPlan) -> tuple[GenerationPlan, list[str]]:
    """The plan with its files as they are now and the hashes that are written into pictures; sentences for the user.

    A file that was replaced meanwhile is used as it is now, and the user is told.
    Raises: NotFound naming a file that is gone.
    """
    comments: list[str] = []
    refiner = plan.refiner.checkpoint if plan.refiner else None

    def ready(checkpoint: Checkpoint) -> Checkpoint:
        now = _as_it_is(engine, checkpoint)
        if now.identity != checkpoint.identity:
            sentence = f"{checkpoint.name} was replaced while the job waited; the new file was used."
            comments.extend([] if sentence in comments else [sentence])
        hashed = plan.settings["add_model_hash_to_info"] or checkpoint == refiner
        return engine.checkpoints.hashed(now) if hashed else now

    vaes = {path: _ready_vae(engine, plan, use) for path, use in plan.vaes.items()}
    return replace(plan.with_checkpoints(ready), vaes=vaes), comments


def _as_it_is(engine: Engine, checkpoint: Checkpoint) -> Checkpoint:
    try:
        stat = checkpoint.path.stat()
    except OSError as error:
        raise NotFound(
            f"{checkpoint.name} was there when the job was queued and can't be read any more ({error.strerror}: "
            f"{checkpoint.path}). Put it back, or choose another checkpoint, and generate again."
        ) from error
    if (stat.st_size, stat.st_mtime_ns) == (checkpoint.size, checkpoint.mtime_ns):
        return checkpoint
    listed = next((item for item in engine.checkpoints.refresh() if item.path == checkpoint.path), None)
    return listed or replace(checkpoint, size=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=None)


def _ready_vae(engine: Engine, plan: GenerationPlan, use: VaeUse) -> VaeUse:
    if use.file is None:
        return use
    if not use.file.path.exists():
        raise NotFound(f"The VAE {use.file.name} was there when the job was queued and is gone; put it back.")
    return replace(use, file=engine.vaes.hashed(use.file)) if plan.settings["add_vae_hash_to_info"] else use
