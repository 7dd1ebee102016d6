"""Everything that a pickle of weights may name, and what stands here in its place: plain data, never the real thing.

Whatever is not in `KNOWN` refuses the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from webui.catalog.pickle_machine import Known, Machine
from webui.catalog.safetensors_header import ITEM_SIZE

STORAGE_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "FloatStorage": "F32",
        "HalfStorage": "F16",
        "BFloat16Storage": "BF16",
        "DoubleStorage": "F64",
        "IntStorage": "I32",
        "LongStorage": "I64",
        "ShortStorage": "I16",
        "ByteStorage": "U8",
        "CharStorage": "I8",
        "BoolStorage": "BOOL",
    }
)
"""torch's typed storages -> safetensors' name of the element type."""

TORCH_DTYPES = ("float32", "float16", "bfloat16", "float64", "int32", "int64", "int16", "uint8", "int8", "bool")
_OF_DTYPE = dict(zip(TORCH_DTYPES, STORAGE_TYPES.values(), strict=False))
NUMPY_DTYPES: Mapping[str, str] = MappingProxyType(
    {"f4": "F32", "f2": "F16", "f8": "F64", "i4": "I32", "i8": "I64", "i2": "I16", "u1": "U8", "i1": "I8", "b1": "BOOL"}
)


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file. dtype: safetensors' name. count: elements."""

    key: str
    dtype: str
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * ITEM_SIZE[self.dtype]


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A view of a storage. stride, offset: in elements. inline: the numbers themselves, where the pickle holds them."""

    storage: Storage
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    inline: bytes | None = None

    @property
    def dtype(self) -> str:
        return self.storage.dtype


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major steps, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


class _Name:
    """A named thing that may be a key of a table, and that can't be called."""

    is_name = True

    def __init__(self, title: str):
        self.title = title

    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> Any:
        raise machine.refused(f"its pickle calls {self.title}")


class StorageType(_Name):
    """torch.FloatStorage and its like, or a dtype such as torch.float32."""

    def __init__(self, title: str, dtype: str):
        super().__init__(title)
        self.dtype = dtype


class _Table(_Name):
    """collections.OrderedDict: a plain dict."""

    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        if not arguments:
            return {}
        pairs = arguments[0]
        if len(arguments) > 1 or type(pairs) is not list:
            raise machine.refused("its pickle fills a table in an unknown way")
        machine.spend(len(pairs))
        table = {}
        for pair in pairs:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise machine.refused("its pickle fills a table in an unknown way")
            table[machine.key(pair[0])] = pair[1]
        return table


class _Set(_Name):
    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> set[Any]:
        items = arguments[0] if arguments else []
        if len(arguments) > 1 or type(items) is not list:
            raise machine.refused("its pickle fills a set in an unknown way")
        machine.spend(len(items) + 3)
        return {machine.key(item) for item in items}


class ParameterTable(dict[Any, Any]):
    """torch's ParameterDict, as a table of its tensors."""

    def set_state(self, machine: Machine, state: Any) -> None:
        inner = state.get("_parameters") if type(state) is dict else None
        if not isinstance(inner, dict):
            raise machine.refused("its pickle holds a ParameterDict of an unknown kind")
        machine.spend(len(inner))
        self.update(inner)


class _ParameterDict(_Name):
    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> ParameterTable:
        if arguments:
            raise machine.refused("its pickle makes a ParameterDict in an unknown way")
        return ParameterTable()


class Inert:
    """Something saved beside the weights that is not looked at: a training callback."""

    def set_state(self, machine: Machine, state: Any) -> None:
        """Nothing is kept."""


class _Inert(_Name):
    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> Inert:
        return Inert()


class _Encode(_Name):
    """_codecs.encode(text, "latin1"): how protocol 2 writes bytes."""

    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> bytes:
        if len(arguments) != 2 or type(arguments[0]) is not str or arguments[1] != "latin1":
            raise machine.refused("its pickle encodes text other than as latin1")
        machine.spend(len(arguments[0]) // 64)
        return arguments[0].encode("latin-1")


class _Tensor(_Name):
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata?)."""

    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> PickledTensor:
        if len(arguments) not in (6, 7) or not isinstance(arguments[0], Storage):
            raise machine.refused("its pickle describes a tensor in an unknown way")
        return tensor_of(machine, *arguments[:4])


def tensor_of(machine: Machine, storage: Storage, offset: Any, shape: Any, stride: Any) -> PickledTensor:
    """Raises: BadModelFile unless every element lies in the storage, and no more are claimed than it has."""
    if not (_naturals(shape) and _naturals(stride) and _naturals((offset,)) and len(shape) == len(stride)):
        raise machine.refused("its pickle describes a tensor of an impossible shape")
    elements = math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if elements else 0
    if elements > storage.count or last >= max(storage.count, 1):
        raise machine.refused(f"a tensor of {elements} elements is claimed in a storage of {storage.count}")
    return PickledTensor(storage, shape, stride, offset)


def _naturals(values: Any) -> bool:
    return (
        type(values) is tuple
        and len(values) <= 16
        and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
    )


class _Parameter(_Name):
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks): its tensor."""

    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> PickledTensor:
        if len(arguments) != 3 or not isinstance(arguments[0], PickledTensor):
            raise machine.refused("its pickle describes a parameter in an unknown way")
        return arguments[0]


class NumpyType:
    """numpy.dtype. dtype: safetensors' name, None for kinds that hold no plain numbers."""

    def __init__(self, code: str):
        self.dtype = NUMPY_DTYPES.get(code)
        self.is_big_endian = False

    def set_state(self, machine: Machine, state: Any) -> None:
        self.is_big_endian = type(state) is tuple and state[1:2] == (">",)


class _NumpyType(_Name):
    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> NumpyType:
        if not arguments or type(arguments[0]) is not str:
            raise machine.refused("its pickle describes a numpy type in an unknown way")
        return NumpyType(arguments[0])


class NumpyArray:
    """A numpy array inside the pickle. tensor: None until its state is there, and for kinds without plain numbers."""

    def __init__(self) -> None:
        self.tensor: PickledTensor | None = None

    def set_state(self, machine: Machine, state: Any) -> None:
        """state: (version, shape, dtype, column-major, bytes)."""
        if type(state) is not tuple or len(state) != 5 or not isinstance(state[2], NumpyType):
            raise machine.refused("its pickle describes a numpy array in an unknown way")
        _, shape, kind, column_major, raw = state
        if type(raw) is bytes and kind.dtype and not kind.is_big_endian and not column_major:
            count = len(raw) // ITEM_SIZE[kind.dtype]
            stride = contiguous_stride(shape) if _naturals(shape) else ()
            tensor = tensor_of(machine, Storage("", kind.dtype, count), 0, shape, stride)
            self.tensor = PickledTensor(tensor.storage, tensor.shape, tensor.stride, 0, raw)


class _NumpyArray(_Name):
    """numpy's _reconstruct(ndarray, (0,), b"b")."""

    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> NumpyArray:
        if len(arguments) != 3 or not isinstance(arguments[0], _NumpyClass):
            raise machine.refused("its pickle describes a numpy array in an unknown way")
        return NumpyArray()


class _NumpyClass(_Name):
    """numpy.ndarray, which is only named."""


class _NumpyScalar(_Name):
    """numpy's scalar(dtype, bytes): kept as it is, since no weight is one."""

    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> Inert:
        if not arguments or not isinstance(arguments[0], NumpyType):
            raise machine.refused("its pickle describes a numpy number in an unknown way")
        return Inert()


class _TensorFromNumpy(_Name):
    """torch._utils._rebuild_device_tensor_from_numpy(array, dtype, device, requires_grad)."""

    def call(self, machine: Machine, arguments: tuple[Any, ...]) -> PickledTensor:
        array = arguments[0] if len(arguments) == 4 else None
        if not isinstance(array, NumpyArray) or array.tensor is None:
            raise machine.refused("its pickle describes a tensor in an unknown way")
        return array.tensor


def _known() -> dict[tuple[str, str], Known]:
    table: dict[tuple[str, str], Known] = {
        ("collections", "OrderedDict"): _Table("OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor("_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"): _Parameter("_rebuild_parameter"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"): _TensorFromNumpy("_rebuild_device_tensor_from_numpy"),
        ("torch.nn.modules.container", "ParameterDict"): _ParameterDict("ParameterDict"),
        ("numpy", "dtype"): _NumpyType("numpy.dtype"),
        ("numpy", "ndarray"): _NumpyClass("numpy.ndarray"),
        ("_codecs", "encode"): _Encode("_codecs.encode"),
        ("__builtin__", "set"): _Set("set"),
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        table[module, "scalar"] = _NumpyScalar("numpy's scalar")
        table[module, "_reconstruct"] = _NumpyArray("numpy's _reconstruct")
    for module in ("pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"):
        table[module, "ModelCheckpoint"] = _Inert("ModelCheckpoint")
    for name, dtype in STORAGE_TYPES.items():
        table["torch", name] = StorageType(f"torch.{name}", dtype)
    for name, dtype in _OF_DTYPE.items():
        table["torch", name] = StorageType(f"torch.{name}", dtype)
    return table


KNOWN: Mapping[tuple[str, str], Known] = MappingProxyType(_known())
"""(module, name) -> what stands for it; this is the whole list."""
