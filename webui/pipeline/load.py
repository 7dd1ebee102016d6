"""The job that makes a checkpoint ready before anyone asks for a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webui.pipeline.engine import Engine

if TYPE_CHECKING:
    from webui.jobs.context import JobContext


def run(engine: Engine, name: str | None, job: JobContext) -> str:
    """Load the checkpoint of that name (None: the one in the settings, or the default) and return its title.

    Raises: NotFound, BadModelFile; the model loaded before stays.
    """
    chosen = engine.settings.snapshot()["sd_model_checkpoint"] or ""
    checkpoint = engine.checkpoints.find(name) if name else engine.checkpoints.default(chosen)
    job.text(f"Loading {checkpoint.model_name}")
    with engine.models.lease(checkpoint) as model:
        return model.checkpoint.title


def unload(engine: Engine, payload: None, job: JobContext) -> None:
    """Give the memory of the loaded model back; the next job loads it again."""
    engine.models.unload()
