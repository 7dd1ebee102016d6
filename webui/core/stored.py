"""Requests, plans and results as JSON and back, so that a job can wait on the disk.

What was given comes back equal, whole numbers as whole numbers: `load(type(value), dump(value)) == value`. Pictures
stand in the JSON by their hashes; their bytes lie in a blob store.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from webui.core.choices import Choices, Sampler, Scheduler
from webui.core.errors import InvalidRequest, WebuiError
from webui.core.params import Params
from webui.core.results import TRANSIENT
from webui.core.settings import Setting, Settings

T = TypeVar("T")

BLOB = "$blob"
IN_FILE = "in_file"
"""Metadata of a dataclass's field of bytes: the name of the field with the file that holds them, if it isn't None."""
GROUPS = "extensions"
"""The field of a request that holds extensions' groups by the names of their classes."""


class Blobs(Protocol):
    """Where bytes lie under their SHA-256 in hexadecimal."""

    def put(self, data: bytes) -> str: ...
    def get(self, digest: str) -> bytes: ...
    def path_of(self, digest: str) -> Path: ...


@dataclass(frozen=True)
class KeptFile:
    """A file that may go before the job runs, so it is copied when the job begins to wait; it is read only then."""

    path: Path


class Codec:
    """Turns values into what JSON can hold, and back.

    settings: every setting there is now, by key. groups: the parameter classes of the extensions there are now.
    choices: samplers and schedules are kept by their names.
    """

    def __init__(
        self,
        blobs: Blobs,
        settings: Callable[[], Mapping[str, Setting]],
        groups: Callable[[], Iterable[type[Params]]] = tuple,
        choices: Choices | None = None,
    ) -> None:
        self._blobs = blobs
        self._settings = settings
        self._groups = groups
        self._choices = choices or Choices()

    def dump(self, value: object) -> Any:
        """value: plain values, bytes, paths, kept files, lists, mappings, and dataclasses and `Params` of such.

        Raises: TypeError for anything else, OSError when a picture can't be kept, InvalidRequest for a `KeptFile` that
        is gone.
        """
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, bytes):
            return {BLOB: self._blobs.put(value)}
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, KeptFile):
            return {BLOB: self._blobs.put(_content(value.path))}
        if isinstance(value, Sampler | Scheduler):
            return value.name
        if isinstance(value, WebuiError):
            return str(value)
        if isinstance(value, Params):
            return {name: self.dump(getattr(value, name)) for name in type(value).model_fields}
        if is_dataclass(value) and not isinstance(value, type):
            return self._dumped_dataclass(value)
        if isinstance(value, Mapping):
            return {_key(key): self.dump(item) for key, item in value.items()}
        if isinstance(value, frozenset | set):
            return sorted(self.dump(item) for item in value)
        if isinstance(value, Sequence):
            return [self.dump(item) for item in value]
        raise TypeError(f"a {type(value).__name__} can't wait in the queue: {value!r:.100}")

    def load(self, kind: type[T], data: Any) -> T:
        """A value of that type. Raises: InvalidRequest when the data doesn't fit what the program is now."""
        try:
            loaded: T = self._loaded(kind, data)
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"What was kept of this job doesn't fit this version of Easel ({type(error).__name__}: "
                f"{str(error)[:200]}); ask for it again."
            ) from error
        return loaded

    def _dumped_dataclass(self, value: Any) -> dict[str, Any]:
        dumped: dict[str, Any] = {}
        for field in fields(value):
            if TRANSIENT in field.metadata:
                continue
            place = field.metadata.get(IN_FILE)
            in_file = place is not None and getattr(value, place) is not None
            dumped[field.name] = None if in_file else self.dump(getattr(value, field.name))
        return dumped

    def _loaded(self, kind: Any, data: Any) -> Any:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            if data is None and type(None) in arguments:
                return None
            (kind,) = (argument for argument in arguments if argument is not type(None))
            return self._loaded(kind, data)
        if origin is Literal or kind in (Any, object):
            return data
        if origin in (tuple, list, frozenset, Sequence) or kind in (tuple, list):
            of = arguments[0] if arguments else Any
            return (origin or kind)(self._loaded(of, item) for item in data)
        if origin is not None and issubclass(origin, Mapping):
            return {_from_key(arguments[0], key): self._loaded(arguments[1], item) for key, item in data.items()}
        if kind is Settings:
            known = self._settings()
            return Settings(known, {key: known[key].check(value) for key, value in data.items() if key in known})
        if kind in (Sampler, Scheduler):
            return next(item for item in self._choices.all(kind) if item.name == data)
        if kind is bytes:
            return self._blobs.get(data[BLOB])
        if kind is Path:
            return Path(data)
        if kind is KeptFile:
            return KeptFile(self._blobs.path_of(data[BLOB]))
        if isinstance(kind, type) and issubclass(kind, WebuiError):
            return kind(data)
        if isinstance(kind, type) and issubclass(kind, Params):
            return self._params(kind, data)
        if is_dataclass(kind):
            return self._dataclass(kind, data)
        return data

    def _dataclass(self, kind: Any, data: Mapping[str, Any]) -> Any:
        hints = _hints(kind)
        values: dict[str, Any] = {}
        for field in fields(kind):
            place = field.metadata.get(IN_FILE)
            if place is not None and data[place] is not None:
                values[field.name] = Path(data[place]).read_bytes()
            elif field.name in data:
                values[field.name] = self._loaded(hints[field.name], data[field.name])
        return kind(**values)

    def _params(self, kind: type[Params], data: Mapping[str, Any]) -> Params:
        values = dict(self._with_bytes(data))
        for name, field in kind.model_fields.items():
            if name in data and _holds_dataclass(field.annotation):
                values[name] = self._loaded(field.annotation, data[name])
        if GROUPS in kind.model_fields and isinstance(values.get(GROUPS), Mapping):
            values[GROUPS] = self._extension_groups(data[GROUPS])
        try:
            loaded: Params = _as_whole(kind.model_validate(values), values)
        except ValidationError as error:
            problem = error.errors()[0]
            raise ValueError(f"{kind.__name__}.{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
        return loaded

    def _extension_groups(self, data: Mapping[str, Any]) -> dict[str, Params]:
        known = {group.__name__: group for group in self._groups()}
        for name in data:
            if name not in known:
                raise InvalidRequest(f'The extension with the parameters "{name}" isn\'t here any more.')
        return {name: self._params(known[name], item) for name, item in data.items()}

    def _with_bytes(self, data: Any) -> Any:
        """The data with every picture in place of its hash, and tuples for lists, as frozen parameters hold them."""
        if isinstance(data, Mapping):
            if set(data) == {BLOB}:
                return self._blobs.get(data[BLOB])
            return {key: self._with_bytes(item) for key, item in data.items()}
        return tuple(self._with_bytes(item) for item in data) if isinstance(data, list) else data


def _holds_dataclass(annotation: Any) -> bool:
    """Whether it is a dataclass or a sequence of such."""
    kinds = (annotation, *get_args(annotation))
    return any(isinstance(kind, type) and is_dataclass(kind) for kind in kinds)


def digests_in(data: Any) -> set[str]:
    """The hashes of all pictures that dumped data refers to."""
    if isinstance(data, Mapping):
        if set(data) == {BLOB}:
            return {data[BLOB]}
        return set().union(*map(digests_in, data.values()))
    return set().union(*map(digests_in, data)) if isinstance(data, list) else set()


def _as_whole(value: Any, given: Any) -> Any:
    """The value with an int wherever an int was given for a float: infotexts write 7 for it, not 7.0."""
    if isinstance(value, Params) and isinstance(given, Mapping):
        changed = {
            name: _as_whole(getattr(value, name), given[name]) for name in type(value).model_fields if name in given
        }
        return value.model_copy(update=changed)
    if isinstance(value, tuple) and isinstance(given, tuple):
        return tuple(_as_whole(item, other) for item, other in zip(value, given, strict=True))
    return given if isinstance(value, float) and type(given) is int else value


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path.name} can't be read ({error.strerror}); choose it again.") from error


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _key(key: object) -> str:
    if key == BLOB or not isinstance(key, str | Path):
        raise TypeError(f"{key!r:.100} can't be a key of what waits in the queue")
    return str(key)


def _from_key(kind: Any, key: str) -> Any:
    return Path(key) if kind is Path else key
