"""What an ONNX file takes and gives, read from its head without its weights; and one tensor of it.

A file of half a gigabyte is not to be parsed whole for its inputs' shapes, so the few fields are picked from the file's
memory map. Source: the protobuf encoding, and onnx.proto of ONNX 1.x.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from webui.extensions.api import BadModelFile

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
GRAPH = 7
INITIALIZER, INPUT, OUTPUT = 5, 11, 12
FLOAT, HALF = 1, 10
MOST_VALUES = 2**22
"""Numbers of a tensor that is read here."""

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Part:
    """A stretch of the file."""

    data: mmap.mmap | bytes
    start: int
    end: int

    def fields(self) -> Iterator[tuple[int, Any]]:
        """(number, a whole number or a Part) of each field. Raises: ValueError where the bytes make no sense."""
        place = self.start
        while place < self.end:
            key, place = self._varint(place)
            kind = key & 7
            if kind == VARINT:
                value, place = self._varint(place)
                yield key >> 3, value
                continue
            length = {FIXED64: 8, FIXED32: 4}.get(kind)
            if kind == BYTES:
                length, place = self._varint(place)
            if length is None or place + length > self.end:
                raise ValueError("it ends too early")
            yield key >> 3, Part(self.data, place, place + length)
            place += length

    def first(self, number: int) -> Any:
        return next((value for field, value in self.fields() if field == number), None)

    @property
    def content(self) -> bytes:
        return bytes(self.data[self.start : self.end])

    def _varint(self, place: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 64, 7):
            if place >= self.end:
                raise ValueError("it ends too early")
            byte = self.data[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, place
        raise ValueError("a number has no end")


@dataclass(frozen=True)
class OnnxHead:
    """inputs, outputs: name -> shape, in order; None for a side that may vary. Weights aren't inputs.

    last: the shape of the last stored tensor, () when there is none.
    """

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    last: Shape


def read_head(path: Path) -> OnnxHead:
    """Raises: BadModelFile for what is no ONNX file."""
    with _graph(path) as graph:
        inputs: dict[str, Shape] = {}
        outputs: dict[str, Shape] = {}
        weights, last = set(), None
        for field, value in graph.fields():
            if field == INITIALIZER:
                last = value
                weights.add(_name(value, 8))
            elif field in (INPUT, OUTPUT):
                (inputs if field == INPUT else outputs)[_name(value, 1)] = _shape(value)
        given = {name: shape for name, shape in inputs.items() if name not in weights}
        return OnnxHead(given, outputs, _dims(last) if last is not None else ())


def read_last_tensor(path: Path) -> NDArray[np.float32]:
    """The last stored tensor of the graph in its shape. Raises: BadModelFile."""
    with _graph(path) as graph:
        tensor = None
        for field, value in graph.fields():
            tensor = value if field == INITIALIZER else tensor
        if tensor is None:
            raise ValueError("it stores no tensors")
        shape, kind = _dims(tensor), tensor.first(2)
        count = int(np.prod([side or 0 for side in shape]))
        dtype = {FLOAT: np.dtype("<f4"), HALF: np.dtype("<f2")}.get(kind)
        stored = tensor.first(9) or tensor.first(4)
        if dtype is None or stored is None or not 0 < count <= MOST_VALUES:
            raise ValueError("its last tensor is of another kind")
        found = np.frombuffer(stored.content, dtype)
        if found.size != count:
            raise ValueError("its last tensor is incomplete")
        return found.reshape([side or 0 for side in shape]).astype(np.float32)


class _graph:
    """The graph of a file, which is open inside; what makes no sense there is a BadModelFile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Part:
        try:
            with self.path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise BadModelFile(f"{self.path.name} can't be read: {error}.") from error
        try:
            graph = Part(data, 0, len(data)).first(GRAPH)
        except ValueError:
            graph = None
        if not isinstance(graph, Part):
            raise BadModelFile(f"{self.path.name} is no ONNX file, or a damaged one.")
        return graph

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ValueError | AttributeError | UnicodeDecodeError):
            raise BadModelFile(f"{self.path.name} is a damaged ONNX file: {error}.") from error


def _name(part: Part, field: int) -> str:
    found = part.first(field)
    return found.content.decode() if isinstance(found, Part) else ""


def _shape(value_info: Part) -> Shape:
    """Of a ValueInfoProto: type (2) -> tensor_type (1) -> shape (2) -> dim (1)* -> dim_value (1)."""
    part = value_info
    for field in (2, 1, 2):
        found = part.first(field)
        if not isinstance(found, Part):
            return ()
        part = found
    sides = [value.first(1) for field, value in part.fields() if field == 1]
    return tuple(side if isinstance(side, int) and side < 2**63 else None for side in sides)


def _dims(tensor: Part) -> Shape:
    """Of a TensorProto: dims (1), one after the other or packed."""
    sides: list[int | None] = []
    for field, value in tensor.fields():
        if field == 1 and isinstance(value, int):
            sides.append(value)
        elif field == 1:
            place = value.start
            while place < value.end:
                side, place = value._varint(place)
                sides.append(side)
    return tuple(sides)
