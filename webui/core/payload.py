"""Parameters as JSON and back, for what outlives this process: a queue on disk, another machine.

Pictures stand in it by the hash of their content; the content lies in a store beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from webui.core.params import Params, listed_group, nested_group

Group = TypeVar("Group", bound=Params)

BLOB = "sha256"


class Blobs(Protocol):
    """Where contents lie by their hash."""

    def put(self, data: bytes) -> str:
        """Keep the content. Returns: its SHA-256 in hexadecimal digits."""

    def get(self, digest: str) -> bytes:
        """Raises: NotFound for one that isn't there."""


def to_json(params: Params, blobs: Blobs) -> dict[str, Any]:
    """The group as JSON's own types; pictures go to `blobs`."""
    return {name: _plain(getattr(params, name), blobs) for name in type(params).model_fields}


def from_json(
    group: type[Group], content: Mapping[str, Any], blobs: Blobs, extensions: Iterable[type[Params]]
) -> Group:
    """The group that `to_json` was given. extensions: the groups that may be among a request's extensions; values of
    others, of extensions that are gone, are left out.

    Raises: InvalidRequest for values that the group doesn't have, NotFound for a picture that is gone.
    """
    by_name = {extension.__name__: extension for extension in extensions}
    values: dict[str, Any] = {}
    for name, value in content.items():
        field = group.model_fields.get(name)
        inner = nested_group(field.annotation) if field is not None else None
        if field is not None and listed_group(field.annotation) is not None and inner is not None:
            values[name] = tuple(from_json(inner, item, blobs, ()) for item in value)
        elif inner is not None and value is not None:
            values[name] = from_json(inner, value, blobs, ())
        elif name == "extensions":
            known = {key: item for key, item in value.items() if key in by_name}
            values[name] = {key: from_json(by_name[key], item, blobs, ()) for key, item in known.items()}
        else:
            values[name] = _value(value, blobs)
    return group.as_given(**values)


def _plain(value: Any, blobs: Blobs) -> Any:
    if isinstance(value, Params):
        return to_json(value, blobs)
    if isinstance(value, bytes):
        return {BLOB: blobs.put(value)}
    if isinstance(value, list | tuple):
        return [_plain(item, blobs) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item, blobs) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _value(value: Any, blobs: Blobs) -> Any:
    """Lists are tuples in parameters and settings alike."""
    if isinstance(value, dict) and value.keys() == {BLOB}:
        return blobs.get(value[BLOB])
    if isinstance(value, list):
        return tuple(_value(item, blobs) for item in value)
    if isinstance(value, dict):
        return {key: _value(item, blobs) for key, item in value.items()}
    return value
