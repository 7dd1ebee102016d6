"""What a form begins with while a checkpoint is in use: what suits the checkpoint, by its file or the one beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.inspection import inspect
from webui.core.errors import WebuiError
from webui.core.request import GenerationRequest
from webui.services.services import Services

USUAL_CFG_SCALE = float(next(spec.default for spec in GenerationRequest.specs() if spec.dotted == "cfg_scale"))


@dataclass(frozen=True)
class CheckpointDefaults:
    """size: pixels of a side. cfg_scale: guidance."""

    size: int = 512
    cfg_scale: float = USUAL_CFG_SCALE

    @property
    def form(self) -> Mapping[str, float]:
        """The fields of a form that begin with them."""
        return {"width": self.size, "height": self.size, "cfg_scale": self.cfg_scale}


def defaults_of(checkpoint: Checkpoint) -> CheckpointDefaults:
    """What the .yaml beside the file or its metadata tell, else what suits its family.

    A file that can't be read is for the loader to complain about: it has the usual defaults.
    """
    usual = CheckpointDefaults()
    try:
        told = inspect(checkpoint)[1]
    except WebuiError:
        return usual
    fits = 64 <= told.native_size <= 2048 and told.native_size % 8 == 0
    return CheckpointDefaults(
        size=told.native_size if fits else usual.size,
        cfg_scale=told.cfg_scale if 1 <= told.cfg_scale <= 30 else usual.cfg_scale,
    )


def current_defaults(services: Services) -> CheckpointDefaults:
    """Those of the checkpoint in use."""
    try:
        return defaults_of(services.checkpoints.default(services.settings.snapshot()["sd_model_checkpoint"] or ""))
    except WebuiError:
        return CheckpointDefaults()
