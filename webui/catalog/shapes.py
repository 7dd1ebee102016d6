"""Tensor shapes by name: what a checkpoint's family and sizes are read from."""

from __future__ import annotations

from collections.abc import Mapping

from webui.core.errors import BadModelFile

Shapes = Mapping[str, tuple[int, ...]]


MAX_LEVELS = 8
MAX_BLOCKS = 8
MAX_LAYERS = 64
"""More than any model has; a file with more is refused before modules are built for it."""


def size_of(shapes: Shapes, key: str, axis: int, file: str) -> int:
    """shapes[key][axis], at least 1.

    Raises: BadModelFile naming `file` and `key` when the tensor is missing or has no such axis.
    """
    shape = shapes.get(key)
    if shape is None:
        raise BadModelFile(f"{file} lacks the tensor {key}; it is incomplete or of another kind than it looks.")
    if axis >= len(shape) or shape[axis] < 1:
        raise BadModelFile(f"{file} has the tensor {key} in the impossible shape {list(shape)}.")
    return shape[axis]
