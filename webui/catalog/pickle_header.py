"""What tensors a PyTorch file (.ckpt, .pt, .pth, .bin) holds and where, found without running anything.

The counterpart of `safetensors_header` for pickles. Two layouts exist: a zip archive whose `data.pkl` refers to
records with the raw numbers, and the older one of five pickles with the numbers behind them.
Source: pytorch/pytorch, torch/serialization.py.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from webui.catalog.pickle_machine import MAX_PICKLE, Machine
from webui.catalog.pickle_names import KNOWN, PickledTensor, Storage, StorageType
from webui.catalog.safetensors_header import ZIP_MAGIC, require_no_pointer
from webui.catalog.zip_records import Record, inflated, read_records
from webui.core.errors import BadModelFile

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
LEGACY_START = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle: nothing but this number, after its protocol."""

NOTES = ("version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment")
"""Members of the archive beside data.pkl and data/*."""

WRAPPERS = ("state_dict", "params_ema", "params", "model")
"""Under which names training programs keep the weights in what they save."""

MAX_TENSORS = 50_000
MAX_DEPTH = 6


@dataclass(frozen=True)
class PickledWeights:
    """A checked file. content: what was saved, as plain data with `PickledTensor`s.

    tensors: the weights by name, without wrappers. records: storage key -> where its bytes lie.
    """

    content: Any
    tensors: Mapping[str, PickledTensor]
    records: Mapping[str, Record]


def read_pickle(data: memoryview, file: str) -> PickledWeights:
    """data: the whole file. file: its name, for messages.

    Raises: BadModelFile with one sentence when it is damaged, is not PyTorch's, or asks for more than weights.
    """
    require_no_pointer(bytes(data[:8]), file)
    if bytes(data[:4]) == ZIP_MAGIC:
        content, records = _read_zip(data, file)
    elif LEGACY_START in bytes(data[:32]):
        content, records = _read_legacy(data, file)
    else:
        _refuse_by_name(data, file)
        raise BadModelFile(f"{file} is a pickle, but not one that PyTorch saved; it is not loaded.")
    return PickledWeights(content, MappingProxyType(dict(weights_in(content, file))), records)


def _refuse_by_name(data: memoryview, file: str) -> None:
    """Of a foreign pickle say first what it asks for, if it does: that tells more than its format."""
    Machine(file, KNOWN, lambda _: None).run(data)


def pickle_problem(path: Path) -> str | None:
    """Why a PyTorch file is refused, None when it isn't. Raises: OSError when it can't be read."""
    with path.open("rb") as file:
        try:
            read_pickle(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), path.name)
        except BadModelFile as error:
            return str(error)
        except ValueError:
            return f"{path.name} is empty (0 bytes): the copy or download failed, fetch it again."
    return None


class _Storages:
    """The storages that a pickle refers to, by key. sizes: bytes there are under each key, None when not yet known."""

    def __init__(self, file: str, sizes: Mapping[str, int] | None):
        self.file = file
        self.sizes = sizes
        self.found: dict[str, Storage] = {}

    def load(self, identity: Any) -> Storage:
        """persistent_load of ("storage", type, key, device, count). Raises: BadModelFile for anything else."""
        is_storage = type(identity) is tuple and len(identity) in (5, 6) and identity[0] == "storage"
        if not is_storage or identity[5:] not in ((), (None,)):
            raise BadModelFile(f"{self.file} is refused: its pickle refers to something that is not a storage.")
        _, kind, key, _, count = identity[:5]
        whole = type(count) is int and 0 <= count < 1 << 48
        if not isinstance(kind, StorageType) or type(key) is not str or not whole:
            raise BadModelFile(f"{self.file} is refused: its pickle describes a storage in an impossible way.")
        storage = Storage(key, kind.dtype, count)
        if self.sizes is not None and storage.size > self.sizes.get(key, -1):
            raise BadModelFile(
                f"{self.file} is damaged: the storage {key[:40]!r} should have {storage.size} bytes "
                f"and has {self.sizes.get(key, 'none')}; copy or download it again."
            )
        before = self.found.setdefault(key, storage)
        if self.sizes is None and before != storage:
            raise BadModelFile(f"{self.file} is refused: its pickle describes the storage {key[:40]!r} in two ways.")
        return storage


def _read_zip(data: memoryview, file: str) -> tuple[Any, Mapping[str, Record]]:
    records = read_records(data, file)
    folder = _folder(records, file)
    pickled = records[f"{folder}data.pkl"]
    if pickled.size > MAX_PICKLE:
        raise BadModelFile(f"{file} is refused: its data.pkl has {pickled.size} bytes; no model needs so many.")
    order = records.get(f"{folder}byteorder")
    if order is not None and inflated(data, order, file).strip() != b"little":
        raise BadModelFile(f"{file} was saved on a big-endian machine, which is not supported.")
    inside = f"{folder}data/"
    numbers = {name.removeprefix(inside): record for name, record in records.items() if name.startswith(inside)}
    storages = _Storages(file, {key: record.size for key, record in numbers.items()})
    content, _ = Machine(file, KNOWN, storages.load).run(inflated(data, pickled, file))
    return content, MappingProxyType({key: numbers[key] for key in storages.found})


def _folder(records: Mapping[str, Record], file: str) -> str:
    """The archive's one folder, with its "/". Raises: BadModelFile for members that PyTorch's files don't have."""
    pickles = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
    if any("/code/" in f"/{name}" or name.endswith("constants.pkl") for name in records):
        raise BadModelFile(f"{file} is refused: it is a TorchScript archive, which carries program code.")
    if len(pickles) != 1:
        what = "is a zip archive that PyTorch didn't save" if not pickles else "is refused: it holds two data.pkl"
        raise BadModelFile(f"{file} {what}; it is not loaded.")
    folder = pickles[0].removesuffix("data.pkl")
    for name, record in records.items():
        inner = name.removeprefix(folder) if name.startswith(folder) else None
        is_folder = name.endswith("/") and record.size == 0
        is_number = inner is not None and inner.startswith("data/") and inner.count("/") == 1
        if not (is_folder or is_number or inner in ("data.pkl", *NOTES)):
            raise BadModelFile(f"{file} is refused: its archive holds {name[:80]!r}, which PyTorch's files don't have.")
    return folder


def _read_legacy(data: memoryview, file: str) -> tuple[Any, Mapping[str, Record]]:
    """Five pickles (magic number, protocol, machine, content, keys), then each storage's count and numbers."""

    def no_storage(_: Any) -> None:
        raise BadModelFile(f"{file} is refused: its pickle refers to a storage where none can be.")

    at, parts = 0, []
    for _ in range(3):
        part, at = Machine(file, {}, no_storage).run(data, at)
        parts.append(part)
    machine = parts[2] if isinstance(parts[2], dict) else {}
    if parts[:2] != [LEGACY_MAGIC, LEGACY_PROTOCOL] or machine.get("little_endian") is not True:
        raise BadModelFile(f"{file} was saved by an unknown PyTorch, or on a big-endian machine; it is not supported.")
    storages = _Storages(file, None)
    content, at = Machine(file, KNOWN, storages.load).run(data, at)
    keys, at = Machine(file, {}, no_storage).run(data, at)
    if type(keys) is not list or not all(type(key) is str for key in keys) or len(set(keys)) != len(keys):
        raise BadModelFile(f"{file} is damaged: its list of storages is broken; copy or download it again.")
    if set(keys) != storages.found.keys():
        raise BadModelFile(f"{file} is damaged: its storages are not those its pickle refers to; fetch it again.")
    records = {}
    for key in keys:
        storage = storages.found[key]
        if at + 8 + storage.size > len(data):
            raise BadModelFile(f"{file} is cut off: the storage {key[:40]!r} lies beyond its end; fetch it again.")
        count = struct.unpack("<q", data[at : at + 8])[0]
        if count != storage.count:
            raise BadModelFile(f"{file} is damaged: the storage {key[:40]!r} has another size than its pickle says.")
        records[key] = Record(at + 8, storage.size, storage.size, 0, deflated=False)
        at += 8 + storage.size
    return content, MappingProxyType(records)


def weights_in(content: Any, file: str) -> Iterator[tuple[str, PickledTensor]]:
    """The tensors of what was saved, by name: wrappers and a common "module." taken off, inner tables joined by ".".

    Raises: BadModelFile when it holds no table, or one deeper or larger than any model's.
    """
    table = content
    for _ in range(2 * len(WRAPPERS)):
        inner = next((table[key] for key in WRAPPERS if isinstance(table, dict) and _is_table(table.get(key))), None)
        if inner is None:
            break
        table = inner
    if not isinstance(table, dict):
        raise BadModelFile(f"{file} holds no table of weights.")
    found = list(_flattened(table, file))
    parallel = found and all(name.startswith("module.") for name, _ in found)
    for name, tensor in found:
        yield name.removeprefix("module.") if parallel else name, tensor


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0


def _flattened(table: dict[Any, Any], file: str) -> Iterator[tuple[str, PickledTensor]]:
    waiting = [("", table, 0)]
    budget = MAX_TENSORS
    while waiting:
        prefix, current, depth = waiting.pop()
        inner = []
        for key, value in current.items():
            budget -= 1
            if budget < 0 or depth > MAX_DEPTH:
                raise BadModelFile(f"{file} is refused: its tables hold more than any model's do.")
            if isinstance(value, PickledTensor):
                yield f"{prefix}{key}", value
            elif isinstance(value, dict):
                inner.append((f"{prefix}{key}.", value, depth + 1))
        waiting.extend(reversed(inner))
