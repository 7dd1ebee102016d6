"""The picture size a checkpoint was trained for, read from what stands beside or in front of its weights."""

from __future__ import annotations

import json
from typing import Any

import yaml

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.safetensors_header import read_header
from webui.core.errors import WebuiError

USUAL = 512


def native_size(checkpoint: Checkpoint) -> int:
    """Pixels of a side: from the .yaml sidecar (model.params.native_size), else from the metadata entry "easel".

    512 when neither tells; a file that can't be read is for the loader to complain about.
    """
    for found in (_from_sidecar(checkpoint), _from_metadata(checkpoint)):
        if isinstance(found, int) and 64 <= found <= 2048 and found % 8 == 0:
            return found
    return USUAL


def _from_sidecar(checkpoint: Checkpoint) -> Any:
    if checkpoint.config is None:
        return None
    try:
        content = yaml.safe_load(checkpoint.config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return _at(content, "model", "params", "native_size")


def _from_metadata(checkpoint: Checkpoint) -> Any:
    if checkpoint.problem or checkpoint.path.suffix.lower() != ".safetensors":
        return None
    try:
        return _at(json.loads(read_header(checkpoint.path).metadata.get("easel", "{}")), "native_size")
    except (WebuiError, ValueError):
        return None


def _at(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content
