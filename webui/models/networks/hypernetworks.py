"""Hypernetworks: small networks before the keys and values of attention, c -> c + f(c) * strength.

A file holds two for each width of context: one for keys, one for values. Self- and cross-attention take them alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from webui.catalog.pickle_names import PickledTensor
from webui.core.errors import BadModelFile, nearest
from webui.core.texts import shown_name
from webui.models.pickle_file import PickleFile

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "elu": nn.ELU,
    "swish": nn.Hardswish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    **{
        name.lower(): getattr(nn, name)
        for name in (
            *("CELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LogSigmoid", "Mish", "ReLU6"),
            *("RReLU", "SELU", "SiLU", "Softplus", "Softshrink", "Softsign", "Tanhshrink"),
        )
    },
}
"""Names in files -> what they mean; "swish" is the hard one."""

LEGACY_NAMES = {"linear1": "linear.0", "linear2": "linear.1"}
MAX_LAYERS = 64
MAX_WIDTH_FACTOR = 16


@dataclass(frozen=True, eq=False)
class Hypernetwork:
    """pairs: width of the context -> networks for keys and for values, fp32."""

    name: str
    pairs: Mapping[int, tuple[nn.Module, nn.Module]]

    @contextmanager
    def attached(self, unet: nn.Module, strength: float) -> Iterator[int]:
        """While inside, the attention of `unet` reads its context through the networks. Yields how many layers do."""
        with ExitStack() as hooks:
            count = 0
            for path, module in unet.named_modules():
                role = path.rpartition(".")[2]
                pair = self.pairs.get(getattr(module, "in_features", 0))
                if role not in ("to_k", "to_v") or pair is None:
                    continue
                network = pair[0 if role == "to_k" else 1].to(_device(module))
                handle = module.register_forward_pre_hook(_Shift(network, strength))
                hooks.callback(handle.remove)
                count += 1
            yield count


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


@dataclass(frozen=True)
class _Shift:
    """c -> c + f(c) * strength, computed in fp32."""

    network: nn.Module
    strength: float

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        context: Tensor = arguments[0]
        wide = context.float()
        return ((wide + self.network(wide) * self.strength).to(context.dtype), *arguments[1:])


def read_hypernetwork(path: Path) -> Hypernetwork:
    """Raises: BadModelFile with one sentence."""
    file = PickleFile(path)
    content = file.content
    if not isinstance(content, dict):
        raise BadModelFile(f"{path.name} is no hypernetwork.")
    shape = Structure.of(content, path.name)
    pairs = {
        width: _pair(file, width, states, shape)
        for width, states in content.items()
        if type(width) is int and width > 0 and isinstance(states, tuple | list)
    }
    if not pairs:
        raise BadModelFile(f"{path.name} is no hypernetwork: it holds no networks for any width of context.")
    return Hypernetwork(shown_name(path.stem), pairs)


@dataclass(frozen=True)
class Structure:
    """How the networks of a file are built. structure: width of each layer, as a multiple of the context's."""

    structure: tuple[float, ...]
    activation: str
    norms: bool
    activates_output: bool
    dropouts: tuple[bool, ...]

    @classmethod
    def of(cls, content: Mapping[Any, Any], file: str) -> Structure:
        """Raises: BadModelFile for a structure or an activation that can't be."""
        structure = content.get("layer_structure") or [1, 2, 1]
        fine = isinstance(structure, list | tuple) and 2 <= len(structure) <= MAX_LAYERS
        if not fine or not all(isinstance(n, int | float) and 0 < n <= MAX_WIDTH_FACTOR for n in structure):
            raise BadModelFile(f"{file} has an impossible layer structure: {str(structure)[:80]}.")
        if structure[0] != 1 or structure[-1] != 1:
            raise BadModelFile(f"{file} has an impossible layer structure: {structure} must begin and end with 1.")
        activation = content.get("activation_func") or "linear"
        if not isinstance(activation, str) or activation.lower() not in ACTIVATIONS:
            known = nearest(str(activation), ACTIVATIONS)
            raise BadModelFile(f'{file} wants the activation "{str(activation)[:40]}", which is not known{known}.')
        output = content.get("activate_output")
        return cls(
            structure=tuple(float(n) for n in structure),
            activation=activation.lower(),
            norms=content.get("is_layer_norm") is True,
            activates_output=True if output is None else bool(output),
            dropouts=_dropouts(content, len(structure)),
        )

    def build(self, width: int, dropouts: Sequence[float] = ()) -> nn.Sequential:
        """The network for contexts of one width; each element has the number that files count it by.

        dropouts: probabilities, for training.
        """
        layers: list[nn.Module] = []
        last = len(self.structure) - 2
        for number in range(last + 1):
            inner, outer = int(width * self.structure[number]), int(width * self.structure[number + 1])
            layers.append(nn.Linear(inner, outer))
            if self.activation != "linear" and (number < last or self.activates_output):
                layers.append(ACTIVATIONS[self.activation]())
            if self.norms:
                layers.append(nn.LayerNorm(outer))
            if self.dropouts[number + 1]:
                layers.append(nn.Dropout(dropouts[number + 1]) if dropouts else nn.Identity())
        return nn.Sequential(*layers)


def _dropouts(content: Mapping[Any, Any], count: int) -> tuple[bool, ...]:
    """Whether a dropout follows the layer that makes each width; older files know one switch and no list."""
    listed = content.get("dropout_structure")
    if isinstance(listed, list | tuple) and len(listed) == count:
        return tuple(isinstance(p, int | float) and p > 0 for p in listed)
    if content.get("use_dropout") is not True:
        return (False,) * count
    last = content.get("last_layer_dropout") is True
    return (False, *(True for _ in range(count - 3)), last, False) if count > 2 else (False,) * count


def _pair(file: PickleFile, width: int, states: Sequence[Any], shape: Structure) -> tuple[nn.Module, nn.Module]:
    if len(states) != 2 or not all(isinstance(state, dict) for state in states):
        raise BadModelFile(f"{file.path.name} is damaged: width {width} should have two networks.")
    keys, values = (_network(file, width, state, shape) for state in states)
    return keys, values


def _network(file: PickleFile, width: int, state: Mapping[str, Any], shape: Structure) -> nn.Module:
    """Raises: BadModelFile when the stored layers aren't those that the file's own description makes."""
    stored = {_modern(key): value for key, value in state.items() if isinstance(value, PickledTensor)}
    with torch.device("meta"):
        network = shape.build(width)
    wanted = {f"linear.{key}": tuple(value.shape) for key, value in network.state_dict().items()}
    if {key: value.shape for key, value in stored.items()} != wanted:
        raise BadModelFile(
            f"{file.path.name} is damaged: its network for width {width} isn't of the layers {list(shape.structure)}."
        )
    weights = {key.removeprefix("linear."): file.materialised(value).float().clone() for key, value in stored.items()}
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def _modern(key: str) -> str:
    first, dot, rest = key.partition(".")
    return f"{LEGACY_NAMES.get(first, first)}{dot}{rest}"
