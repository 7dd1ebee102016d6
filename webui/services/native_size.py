"""The picture size a checkpoint was trained for, read from what stands beside or in front of its weights."""

from __future__ import annotations

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.inspection import inspect
from webui.core.errors import WebuiError

USUAL = 512


def native_size(checkpoint: Checkpoint) -> int:
    """Pixels of a side: what the .yaml beside the file or its metadata tell, else its family's.

    512 when nothing tells; a file that can't be read is for the loader to complain about.
    """
    try:
        size = inspect(checkpoint)[1].native_size
    except WebuiError:
        return USUAL
    return size if 64 <= size <= 2048 and size % 8 == 0 else USUAL
