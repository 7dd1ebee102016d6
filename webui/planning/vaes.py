"""Which VAE each checkpoint of a job is used with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.catalog.sidecars import read_sidecar
from webui.catalog.vaes import AUTOMATIC, NONE, VaeCatalog, choose_vae
from webui.planning.plan import GenerationPlan

SETTING = "sd_vae"


def with_vaes(
    plan: GenerationPlan, vaes: VaeCatalog, checkpoints: CheckpointCatalog, always: Path | None
) -> GenerationPlan:
    """The plan with the VAE of every checkpoint that takes part. always: --vae-path.

    Raises: NotFound when the request itself names a VAE that isn't there.
    """
    asked = plan.request.overrides.get(SETTING)
    if asked and asked not in (AUTOMATIC, NONE):
        vaes.find(asked)
    uses = {
        checkpoint.path: choose_vae(vaes, plan.settings, checkpoint, preference(checkpoint, checkpoints), always)
        for checkpoint in plan.checkpoints
    }
    return replace(plan, vaes=uses)


def preference(checkpoint: Checkpoint, checkpoints: CheckpointCatalog) -> str | None:
    """The VAE that the checkpoint's own notes name."""
    file = next((file for file in checkpoints.files.all() if file.path == checkpoint.path), None)
    return read_sidecar(file).vae if file else None
