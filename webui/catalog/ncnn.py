"""Networks in ncnn's format: layers as text, their numbers one after the other.

Read are the two kinds that Real-ESRGAN has; the numbers get the names they have in its own files.
Source: Tencent/ncnn, docs/developer-guide (param and model file structure).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from webui.core.errors import BadModelFile

MAGIC = "7767517"
HALF = 0x01306B47
"""Before weights in half precision; 0 stands before single precision."""
PARTS_OF_BLOCK = 15
"""Convolutions of one residual-in-residual block: three dense blocks of five."""

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """kind: "Convolution" or "PReLU". weight: (out, in, k, k) or (channels,). bias: (out,), None without one."""

    kind: str
    weight: Array
    bias: Array | None = None


def real_esrgan_weights(param: str, numbers: bytes) -> dict[str, Array]:
    """The weights of an RRDBNet or an SRVGGNetCompact under their official names.

    Raises: BadModelFile for another network, and for files that don't fit each other.
    """
    layers = list(read_layers(param, numbers))
    kinds = [layer.kind for layer in layers]
    if "PReLU" in kinds:
        names = [f"body.{index}" for index in range(len(layers))]
    else:
        blocks, rest = divmod(len(layers) - 6, PARTS_OF_BLOCK)
        if blocks < 1 or rest:
            raise BadModelFile(f"These {len(layers)} convolutions are no Real-ESRGAN.")
        names = [
            "conv_first",
            *(f"body.{i}.rdb{j}.conv{k}" for i in range(blocks) for j in (1, 2, 3) for k in range(1, 6)),
            *("conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"),
        ]
    named: dict[str, Array] = {}
    for name, layer in zip(names, layers, strict=True):
        named[f"{name}.weight"] = layer.weight
        if layer.bias is not None:
            named[f"{name}.bias"] = layer.bias
    return named


def read_layers(param: str, numbers: bytes) -> Iterator[Layer]:
    """The layers that hold numbers, in order. Raises: BadModelFile."""
    lines = param.split("\n")
    if lines[0].strip() != MAGIC:
        raise BadModelFile("This is no network in ncnn's format.")
    reader = _Numbers(numbers)
    for line in lines[2:]:
        words = line.split()
        if not words or words[0] not in ("Convolution", "PReLU"):
            continue
        values = _values(words)
        if words[0] == "PReLU":
            yield Layer("PReLU", reader.floats(values["0"]))
            continue
        count, side, total = values["0"], values["1"], values["6"]
        inner = total // (count * side * side)
        weight = reader.tagged(total).reshape(count, inner, side, side)
        yield Layer("Convolution", weight, reader.floats(count) if values.get("5") else None)
    if reader.rest:
        raise BadModelFile(f"The network leaves {reader.rest} bytes of its numbers unread.")


def _values(words: Sequence[str]) -> dict[str, int]:
    """The whole numbers among a layer's parameters."""
    pairs = (word.split("=", 1) for word in words[4:] if "=" in word)
    return {key: int(value) for key, value in pairs if value.isdecimal()}


class _Numbers:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def rest(self) -> int:
        return len(self._data) - self._at

    def floats(self, count: int) -> Array:
        return np.frombuffer(self._take(count * 4), np.float32)

    def tagged(self, count: int) -> Array:
        (tag,) = struct.unpack("<I", self._take(4))
        if tag == HALF:
            return np.frombuffer(self._take(-(-count * 2 // 4) * 4), np.float16)[:count]
        if tag == 0:
            return self.floats(count)
        raise BadModelFile(f"The network stores its numbers in a way ({tag:#x}) that isn't known here.")

    def _take(self, count: int) -> bytes:
        if count > self.rest:
            raise BadModelFile("The network's file of numbers is too short.")
        self._at += count
        return self._data[self._at - count : self._at]
