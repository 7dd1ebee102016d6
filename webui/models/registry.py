"""How each family's checkpoints become models."""

from __future__ import annotations

from collections.abc import Mapping

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.families import detect_family, read_capabilities
from webui.catalog.inspection import hints_of
from webui.core.errors import BadModelFile
from webui.models.families.base import Blueprint, ModelFamily, ModelFile
from webui.models.families.sd1 import SD1
from webui.models.families.sd2 import SD2, SD2_TURBO
from webui.models.families.sd3 import SD3Family
from webui.models.families.sdxl import REFINER, SDXL
from webui.models.folder_weights import FolderWeights
from webui.models.weights import open_weights

LOADERS: Mapping[str, ModelFamily] = {
    "sd1": SD1,
    "sd2": SD2,
    "sd2-turbo": SD2_TURBO,
    "sdxl": SDXL,
    "sdxl-refiner": REFINER,
    "sd3": SD3Family(),
}
"""By the ids of `webui.catalog.families`; a new family is a row there and one here."""


def open_checkpoint(checkpoint: Checkpoint) -> Blueprint:
    """Check a checkpoint whole, without reading its weights.

    Raises: BadModelFile with one sentence.
    """
    if checkpoint.problem:
        raise BadModelFile(checkpoint.problem)
    name = checkpoint.path.name
    tensors = FolderWeights(checkpoint.path) if checkpoint.path.is_dir() else open_weights(checkpoint.path)
    family = detect_family(tensors.shapes, name)
    hints = hints_of(checkpoint.path, tensors.metadata, checkpoint.config)
    capabilities = read_capabilities(family, tensors.shapes, hints, name)
    return LOADERS[family.id].open(ModelFile(checkpoint, tensors, hints), family.id, capabilities)
