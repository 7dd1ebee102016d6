"""Networks without learnt weights that take and give what insightface's do, for a folder of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)
IDENTITY = np.eye(512, dtype=np.float32)


@dataclass(frozen=True)
class Hit:
    """A face that the detector finds. row, column: of a cell of 8 pixels; size: half of the box, in cells."""

    row: int = 30
    column: int = 40
    size: tuple[float, float] = (5, 6)
    score: float = 0.9

    @property
    def box(self) -> tuple[float, float, float, float]:
        """In the detector's 640 pixels."""
        x, y, (wide, high) = self.column * 8, self.row * 8, self.size
        return x - wide * 8, y - high * 8, x + wide * 8, y + high * 8


ONE = (Hit(),)


def save(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any]
) -> Path:
    graph = helper.make_graph(list(nodes), path.stem, list(inputs), list(outputs), list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def value(name: str, shape: Sequence[int]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def tint_weights(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(512, 3), scale=2).astype(np.float32)


def swapper(models: Path, emap: NDArray[np.float32] = IDENTITY, name: str = "inswapper_128.onnx") -> Path:
    """Mixes the target half with a colour that follows from the source: .5 * target + .5 * sigmoid(source @ w)."""
    weights = [
        numpy_helper.from_array(tint_weights(), "w"),
        numpy_helper.from_array(np.float32(0.5), "half"),
        numpy_helper.from_array(np.array([1, 3, 1, 1], np.int64), "shape"),
        numpy_helper.from_array(emap, "emap"),
    ]
    nodes = [
        helper.make_node("MatMul", ["source", "w"], ["mapped"]),
        helper.make_node("Sigmoid", ["mapped"], ["colour"]),
        helper.make_node("Reshape", ["colour", "shape"], ["pixel"]),
        helper.make_node("Mul", ["pixel", "half"], ["tint"]),
        helper.make_node("Mul", ["target", "half"], ["faint"]),
        helper.make_node("Add", ["faint", "tint"], ["output"]),
    ]
    inputs = [value("target", (1, 3, 128, 128)), value("source", (1, 512))]
    return save(models / "insightface" / name, nodes, inputs, [value("output", (1, 3, 128, 128))], weights)


def tint(latent: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3,) 0 to 1, what the stand-in adds to half of the target."""
    return 0.5 / (1 + np.exp(-(latent.reshape(-1) @ tint_weights())))


def detector(models: Path, hits: Sequence[Hit] = ONE) -> Path:
    """Finds the same faces in every picture."""
    weights, nodes, outputs = [], [], []
    nodes.append(helper.make_node("ReduceMean", ["input.1"], ["mean"], keepdims=0))
    weights.append(numpy_helper.from_array(np.float32(0), "zero"))
    nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    for part, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in STRIDES:
            cells = 640 // stride
            content = np.zeros((cells * cells * 2, width), np.float32)
            if stride == 8:
                for hit in hits:
                    row, (wide, high) = (hit.row * 80 + hit.column) * 2, hit.size
                    x, y = wide * 0.4, high / 3
                    content[row] = {
                        "score": [hit.score],
                        "box": [wide, high, wide, high],
                        "points": [-x, -y, x, -y, 0, 0, -x * 0.75, y * 1.5, x * 0.75, y * 1.5],
                    }[part]
            name = f"{part}_{stride}"
            weights.append(numpy_helper.from_array(content, f"{name}_content"))
            nodes.append(helper.make_node("Add", [f"{name}_content", "nothing"], [name]))
            outputs.append(value(name, content.shape))
    path = models / "insightface" / "models" / "buffalo_l" / "det_10g.onnx"
    return save(path, nodes, [value("input.1", (1, 3, 640, 640))], outputs, weights)


def recogniser(models: Path) -> Path:
    """Tells a face by its mean colour: the means of its channels times 512 numbers each."""
    matrix = np.random.default_rng(1).normal(size=(3, 512)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input.1"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["embedding"]),
    ]
    path = models / "insightface" / "models" / "buffalo_l" / "w600k_r50.onnx"
    weights = [numpy_helper.from_array(matrix, "matrix")]
    return save(path, nodes, [value("input.1", (1, 3, 112, 112))], [value("embedding", (1, 512))], weights)


def genderage(models: Path) -> Path:
    """Whoever is more red than blue is male and 31, others are female; all are 31."""
    matrix = np.array([[-1, 1, 0], [0, 0, 0], [1, -1, 0]], np.float32)
    weights = [
        numpy_helper.from_array(matrix, "matrix"),
        numpy_helper.from_array(np.array([[0, 0, 0.31]], np.float32), "b"),
    ]
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["both"]),
        helper.make_node("Add", ["both", "b"], ["fc1"]),
    ]
    path = models / "insightface" / "models" / "buffalo_l" / "genderage.onnx"
    return save(path, nodes, [value("data", (1, 3, 96, 96))], [value("fc1", (1, 3))], weights)


def all_of_them(models: Path, hits: Sequence[Hit] = ONE) -> Path:
    swapper(models)
    detector(models, hits)
    recogniser(models)
    genderage(models)
    return models
