"""Which VAE each checkpoint of a job is used with, and what the pictures' texts say of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from webui.catalog.checkpoints import Checkpoint, CheckpointCatalog
from webui.catalog.sidecars import read_sidecar
from webui.catalog.vaes import AUTOMATIC, NONE, VaeCatalog, VaeUse, choose_vae
from webui.pipeline.plan import GenerationPlan

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
    parts = [plan.first.checkpoint]
    if plan.hires:
        parts.append(plan.hires.sampling.checkpoint)
    if plan.refiner:
        parts.append(plan.refiner.checkpoint)
    uses = {
        checkpoint.path: choose_vae(vaes, plan.settings, checkpoint, preference(checkpoint, checkpoints), always)
        for checkpoint in parts
    }
    return replace(plan, vaes=uses)


def preference(checkpoint: Checkpoint, checkpoints: CheckpointCatalog) -> str | None:
    """The VAE that the checkpoint's own notes name."""
    file = next((file for file in checkpoints.files.all() if file.path == checkpoint.path), None)
    return read_sidecar(file).vae if file else None


def vae_fields(plan: GenerationPlan) -> dict[str, object]:
    """The infotext's fields; None where there is nothing to say."""
    use: VaeUse = plan.vae_of(plan.first.checkpoint)
    settings, file = plan.settings, use.file
    return {
        "VAE hash": file.shorthash if file and settings["add_vae_hash_to_info"] else None,
        "VAE": file.name if file and settings["add_vae_name_to_info"] else None,
        "VAE Decoder": use.decoder if use.decoder != "Full" else None,
        "VAE Encoder": use.encoder if use.encoder != "Full" and plan.request.image is not None else None,
    }
