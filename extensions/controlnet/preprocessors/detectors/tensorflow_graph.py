"""Graphs that TensorFlow.js saved (model.json and its .bin), computed by torch: the operations that MoveNet needs.

Tensors are laid out as TensorFlow has them, pictures (N, H, W, C). Whole numbers are int64.
Source: https://www.tensorflow.org/api_docs/python/tf/raw_ops
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from webui.extensions.api import BadModelFile

DTYPES = {"DT_FLOAT": torch.float32, "DT_INT32": torch.int64, "DT_INT64": torch.int64, "DT_BOOL": torch.bool}
STORED = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "bool": "?"}


@dataclass(frozen=True)
class Node:
    """One operation. inputs: (name of a node, which of its outputs)."""

    name: str
    op: str
    inputs: tuple[tuple[str, int], ...]
    attributes: Mapping[str, Any]

    def value(self, name: str, default: Any = None) -> Any:
        """A plain attribute: a truth value, a number, a list of numbers, or letters."""
        return _plain(self.attributes[name]) if name in self.attributes else default


class Graph:
    """A function of one picture. order: the nodes, each after those that it reads."""

    def __init__(self, path: Path, device: Any) -> None:
        """Raises: BadModelFile for a graph that can't be read or has an operation that isn't known."""
        try:
            described = json.loads(path.read_bytes())
            nodes = [_node(node) for node in described["modelTopology"]["node"]]
            (group,) = described["weightsManifest"]
            data = b"".join((path.parent / Path(name).name).read_bytes() for name in group["paths"])
            self.constants = {name: value.to(device) for name, value in _constants(group["weights"], data)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadModelFile(f"{path.name} is no graph of TensorFlow.js, or its .bin isn't beside it.") from error
        unknown = {node.op for node in nodes} - {*OPERATIONS, "Const", "Placeholder"}
        if unknown:
            raise BadModelFile(f"{path.name} has operations that aren't known: {', '.join(sorted(unknown))}.")
        self.order = _ordered(nodes)

    def __call__(self, picture: Tensor) -> Tensor:
        """picture: (1, H, W, 3) whole numbers, 0 to 255. Returns: the output of the last node."""
        found: dict[tuple[str, int], Tensor] = {}
        last = picture
        for node in self.order:
            if node.op == "Const":
                outputs: Sequence[Tensor] = (self.constants[node.name],)
            elif node.op == "Placeholder":
                outputs = (picture,)
            else:
                made = OPERATIONS[node.op](node, *(found[place] for place in node.inputs))
                outputs = made if isinstance(made, tuple) else (made,)
            found.update({(node.name, number): output for number, output in enumerate(outputs)})
            last = outputs[0]
        return last


def _node(described: Mapping[str, Any]) -> Node:
    inputs = [name.partition(":") for name in described.get("input", ()) if not name.startswith("^")]
    places = tuple((name, int(number or 0)) for name, _, number in inputs)
    return Node(described["name"], described["op"], places, described.get("attr", {}))


def _plain(attribute: Mapping[str, Any]) -> Any:
    ((kind, value),) = attribute.items()
    if kind == "list":
        return [_plain({inner: item}) for inner, items in value.items() for item in items]
    if kind == "s":
        return base64.b64decode(value).decode()
    return {"i": int, "f": float, "b": bool, "type": str}[kind](value)


def _constants(described: Sequence[Mapping[str, Any]], data: bytes) -> Iterator[tuple[str, Tensor]]:
    start = 0
    for item in described:
        dtype = np.dtype(STORED[item.get("quantization", item)["dtype"]])
        count = math.prod(item["shape"])
        values = torch.from_numpy(np.frombuffer(data, dtype, count, start).reshape(item["shape"]).copy())
        start += count * dtype.itemsize
        yield item["name"], values.float() if values.is_floating_point() else values.long()


def _ordered(nodes: Sequence[Node]) -> list[Node]:
    """Each after those that it reads, the one that nothing reads at the end."""
    named = {node.name: node for node in nodes}
    read = {name for node in nodes for name, _ in node.inputs}
    order: dict[str, Node] = {}
    waiting = [node for node in nodes if node.name not in read]
    while waiting:
        node = waiting[-1]
        ahead = [named[name] for name, _ in node.inputs if name not in order]
        if ahead:
            waiting += ahead
        else:
            order.setdefault(waiting.pop().name, node)
    return list(order.values())


def _padded(x: Tensor, node: Node, kernel: Sequence[int], fill: float = 0.0) -> Tensor:
    """(N, C, H, W) with what padding "SAME" adds, the odd pixel at the end."""
    if node.value("padding") != "SAME":
        return x
    strides = node.value("strides")[1:3]
    missing = [
        max((-(-size // stride) - 1) * stride + side - size, 0)
        for size, stride, side in zip(x.shape[2:], strides, kernel, strict=True)
    ]
    down, across = missing
    return F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2), value=fill)


def _convolved(node: Node, x: Tensor, weight: Tensor, *more: Tensor, depthwise: bool = False) -> Tensor:
    x = _padded(x.permute(0, 3, 1, 2), node, weight.shape[:2])
    groups = x.shape[1] if depthwise else 1
    kernel = weight.permute(2, 3, 0, 1).flatten(0, 1)[:, None] if depthwise else weight.permute(3, 2, 0, 1)
    bias = more[0] if more else None
    y = F.conv2d(x, kernel, bias, stride=tuple(node.value("strides")[1:3]), groups=groups)
    fused = node.value("fused_ops", [])
    if "Relu6" in fused:
        y = y.clamp(0, 6)
    elif "Relu" in fused:
        y = y.relu()
    return y.permute(0, 2, 3, 1)


def _depthwise(node: Node, x: Tensor, weight: Tensor, *more: Tensor) -> Tensor:
    return _convolved(node, x, weight, *more, depthwise=True)


def _resized(_: Node, x: Tensor, size: Tensor) -> Tensor:
    larger = F.interpolate(x.permute(0, 3, 1, 2), size.tolist(), mode="bilinear", align_corners=False)
    return larger.permute(0, 2, 3, 1)


def _max_pooled(node: Node, x: Tensor) -> Tensor:
    kernel = node.value("ksize")[1:3]
    padded = _padded(x.permute(0, 3, 1, 2), node, kernel, -math.inf)
    return F.max_pool2d(padded, kernel, node.value("strides")[1:3]).permute(0, 2, 3, 1)


def _sliced(node: Node, x: Tensor, begin: Tensor, end: Tensor, strides: Tensor) -> Tensor:
    masks = {name: node.value(f"{name}_mask", 0) for name in ("begin", "end", "shrink_axis", "new_axis")}
    index: list[Any] = []
    for axis, (first, last, step) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)):
        bit = 1 << axis
        if masks["new_axis"] & bit:
            index.append(None)
        elif masks["shrink_axis"] & bit:
            index.append(first)
        else:
            index.append(slice(None if masks["begin"] & bit else first, None if masks["end"] & bit else last, step))
    return x[tuple(index)]


def _squeezed(node: Node, x: Tensor) -> Tensor:
    axes = node.value("squeeze_dims") or [axis for axis, size in enumerate(x.shape) if size == 1]
    return x.squeeze(tuple(axes))


def _selected(_: Node, condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    shape = [*condition.shape, *[1] * (yes.ndim - condition.ndim)]
    return torch.where(condition.bool().reshape(shape), yes, no)


def _top(_: Node, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    values, places = torch.topk(x, int(count))
    return values, places


def _reduced(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduce(node: Node, x: Tensor, axes: Tensor) -> Tensor:
        return function(x, dim=tuple(axes.reshape(-1).tolist()), keepdim=node.value("keep_dims", False))

    return reduce


def _elementwise(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda _, *inputs: function(*inputs)


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "_FusedConv2D": _convolved,
    "Conv2D": _convolved,
    "FusedDepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNative": _depthwise,
    "ResizeBilinear": _resized,
    "MaxPool": _max_pooled,
    "StridedSlice": _sliced,
    "Squeeze": _squeezed,
    "Select": _selected,
    "TopKV2": _top,
    "Sum": _reduced(torch.sum),
    "Max": _reduced(torch.amax),
    "Identity": _elementwise(lambda x: x),
    "AddV2": _elementwise(torch.add),
    "AddN": _elementwise(lambda *xs: sum(xs[1:], xs[0])),
    "Sub": _elementwise(torch.sub),
    "Mul": _elementwise(torch.mul),
    "RealDiv": _elementwise(torch.div),
    "FloorDiv": _elementwise(lambda x, y: torch.div(x, y, rounding_mode="floor")),
    "SquaredDifference": _elementwise(lambda x, y: (x - y) ** 2),
    "Maximum": _elementwise(torch.maximum),
    "Minimum": _elementwise(torch.minimum),
    "Less": _elementwise(torch.lt),
    "Greater": _elementwise(torch.gt),
    "GreaterEqual": _elementwise(torch.ge),
    "Equal": _elementwise(torch.eq),
    "LogicalAnd": _elementwise(torch.logical_and),
    "Abs": _elementwise(torch.abs),
    "Exp": _elementwise(torch.exp),
    "Sqrt": _elementwise(torch.sqrt),
    "Reciprocal": _elementwise(torch.reciprocal),
    "Sigmoid": _elementwise(torch.sigmoid),
    "Reshape": _elementwise(lambda x, shape: x.reshape(shape.tolist())),
    "ExpandDims": _elementwise(lambda x, axis: x.unsqueeze(int(axis))),
    "Tile": _elementwise(lambda x, times: x.repeat(times.tolist())),
    "Fill": _elementwise(lambda shape, value: value.expand(shape.tolist())),
    "Range": _elementwise(lambda start, end, step: torch.arange(int(start), int(end), int(step), device=start.device)),
    "GatherNd": _elementwise(lambda x, places: x[tuple(places.unbind(-1))]),
    "ArgMax": _elementwise(lambda x, axis: x.argmax(int(axis))),
    "ConcatV2": _elementwise(lambda *inputs: torch.cat(inputs[:-1], int(inputs[-1]))),
    "Shape": _elementwise(lambda x: torch.tensor(x.shape, device=x.device)),
    "Size": _elementwise(lambda x: torch.tensor(x.numel(), device=x.device)),
    "Cast": lambda node, x: x.to(DTYPES[node.value("DstT")]),
    "Pack": lambda node, *inputs: torch.stack(inputs, node.value("axis", 0)),
    "Unpack": lambda node, x: x.unbind(node.value("axis", 0)),
    "Split": lambda node, axis, x: x.chunk(node.value("num_split"), int(axis)),
}
