"""An embedding or a hypernetwork as it is before its first step."""

from __future__ import annotations

import time

import torch

from webui.core.training import TrainingResult
from webui.core.training_data import DataFacts
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.planning.training import TrainingPlan
from webui.training.job import trainee_class
from webui.training.trainee import Done


def run(engine: Engine, plan: TrainingPlan, job: JobContext) -> TrainingResult:
    """Write the file. Raises: InvalidRequest when the model has no use for it, BadModelFile, NotSaved."""
    job.text("Loading the checkpoint")
    with engine.models.workshop(plan.checkpoint, (), torch.float32) as model:
        trainee = trainee_class(plan.kind)(plan, model)
        try:
            files = trainee.save(plan.target, Done(0, 0, 0, 0, time.time(), DataFacts(0, 0, (0, 0))))
        finally:
            trainee.close()
    written = tuple(str(file) for file in files)
    return TrainingResult(written, 0, 0, None, f"{plan.target.name} is made, and can be trained now.")
