"""A complete SD 1.x checkpoint small enough for a test: true key layout, seeded weights, about 12 MB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.random_checkpoint import TINY, write_checkpoint

NATIVE_SIZE = TINY.native_size


def tiny_checkpoint(folder: Path, name: str = "tiny", seed: int = 0, dtype: str = "F16", **layout: Any) -> Path:
    """Write `<folder>/<name>.safetensors` and its .yaml sidecar; returns the file. layout: changes to TINY."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    write_checkpoint(path, replace(TINY, **layout), dtype, seed)
    return path
