"""ONNX files that answer the same whatever they are asked, written without the package onnx.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def constant_network(shape: Sequence[int], outputs: Mapping[str, np.ndarray]) -> bytes:
    """A model with one float input "images" of a shape, whose outputs are these float arrays."""
    nodes = b"".join(field(1, constant(name, values)) for name, values in outputs.items())
    inputs = field(11, value_info("images", shape))
    told = b"".join(field(12, value_info(name, values.shape)) for name, values in outputs.items())
    graph = nodes + field(2, b"g") + inputs + told
    return varint_field(1, 8) + field(7, graph) + field(8, varint_field(2, 13))


def constant(name: str, values: np.ndarray) -> bytes:
    attribute = field(1, b"value") + field(5, tensor(values)) + varint_field(20, 4)
    return field(2, name.encode()) + field(4, b"Constant") + field(5, attribute)


def tensor(values: np.ndarray) -> bytes:
    dims = b"".join(varint_field(1, size) for size in values.shape)
    return dims + varint_field(2, 1) + field(9, values.astype("<f4").tobytes())


def value_info(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(field(1, varint_field(1, size)) for size in shape)
    kind = field(1, varint_field(1, 1) + field(2, dims))
    return field(1, name.encode()) + field(2, kind)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
