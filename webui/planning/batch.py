"""What is decided about a batch of pictures before it waits in the queue."""

from __future__ import annotations

from dataclasses import dataclass, replace

from webui.core.batch import PictureBatch
from webui.core.request import drawn
from webui.core.settings import Settings
from webui.planning.planner import Planner


@dataclass(frozen=True)
class BatchPlan:
    """A batch with its seed drawn, one for all pictures, and the settings as they were when it was asked for.

    Each picture's own plan is made when its turn comes: its size and its infotext are part of it.
    """

    batch: PictureBatch
    settings: Settings


def make_batch_plan(batch: PictureBatch, planner: Planner) -> BatchPlan:
    """Raises: InvalidRequest, NotFound for what would be wrong with every picture."""
    settings = planner.settings.snapshot()
    image = batch.request.image
    assert image is not None, "a batch is of img2img"
    planner.replan(batch.request.replace(image=image.replace(images=(b"its turn comes",))), settings)
    request = batch.request.replace(seed=drawn(batch.request.seed))
    return BatchPlan(replace(batch, request=request), settings)
