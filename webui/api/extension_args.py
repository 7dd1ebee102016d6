"""The parameters of extensions as clients of the API send them, in alwayson_scripts and elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from pydantic.fields import FieldInfo

from webui.api.images import picture_bytes
from webui.core.errors import InvalidRequest, nearest
from webui.core.params import Params, listed_group, nested_group, title_of
from webui.core.values import is_pictures, value_type

BUILT_IN_SCRIPTS = frozenset({"refiner", "sampler", "seed"})  # the request's own fields; A1111 ignores their args here


@dataclass
class Asked:
    """What clients ask of extensions. remarks: sentences about what was left out."""

    groups: dict[str, Params] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def extension_values(
    asked: Mapping[str, Any], extensions: Sequence[type[Params]], where: str = "alwayson_scripts"
) -> Asked:
    """The parameter groups that a field of the body names by their class or their title, in any case of letters.

    "args" are values in order, or by name; a group may read an old form of its own, see `Params.from_api`.
    where: the field's name.
    Raises: InvalidRequest for an unknown title, or for values that the group refuses.
    """
    found = Asked()
    for title, content in asked.items():
        group = group_named(title, extensions)
        if group is None and title.lower() in BUILT_IN_SCRIPTS:
            continue
        if group is None:
            names = [name for other in extensions for name in (other.__name__, title_of(other))]
            raise InvalidRequest(f"Script '{title[:100]}' not found{nearest(title, names)}.")
        args = content.get("args", {}) if isinstance(content, dict) else None
        if not isinstance(args, list | dict):
            count = len(group.model_fields)
            raise InvalidRequest(f"{where}.{title}.args must be up to {count} values, or an object of them.")
        found.groups[group.__name__] = _read(group, args, title_of(group), found.remarks)
    return found


def group_named(title: str, extensions: Iterable[type[Params]]) -> type[Params] | None:
    """The group whose class, or else whose title, has this name, in any case of letters."""
    wanted = title.casefold()
    groups = list(extensions)
    for name_of in (lambda group: group.__name__, title_of):
        for group in groups:
            if name_of(group).casefold() == wanted:
                return group
    return None


def _read(group: type[Params], args: Any, where: str, remarks: list[str], base: Params | None = None) -> Params:
    """where: the beginning of what its fields are called in sentences. base: what isn't given is as there."""
    if not isinstance(args, list | dict) or (isinstance(args, dict) and not all(isinstance(key, str) for key in args)):
        raise InvalidRequest(f"{where} must be an object of its values, or a list of them.")
    values = dict(group.from_api(args))
    if group.forgiving:
        for key in [key for key in values if key not in group.model_fields]:
            del values[key]
            remarks.append(f'{where} has no parameter "{key[:100]}"; it was ignored.')
    for name, value in values.items():
        declared = group.model_fields.get(name)
        if declared is not None and value is not None:
            values[name] = _value(declared, value, f"{where}.{name}", remarks)
    return base.replace(**values) if base is not None else group.as_given(**values)


def _value(declared: FieldInfo, value: Any, where: str, remarks: list[str]) -> Any:
    annotation = declared.annotation
    inner = nested_group(annotation)
    if listed_group(annotation) is not None and inner is not None:
        if not isinstance(value, list):
            raise InvalidRequest(f"{where} must be a list.")
        bases = zip_longest(value, declared.default[: len(value)])
        return tuple(_read(inner, item, f"{where}[{n}]", remarks, base) for n, (item, base) in enumerate(bases))
    if inner is not None:
        if value is False and declared.default is None:
            return None
        return _read(inner, {} if value is True else value, where, remarks)
    if is_pictures(annotation):
        items = value if isinstance(value, list) else [value]
        return tuple(_picture(item, f"{where}[{index}]") for index, item in enumerate(items))
    if value_type(annotation) is bytes:
        return _picture(value, where) if value != "" else None
    return value


def _picture(value: Any, where: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidRequest(f"{where} must be a picture in base64.")
    return picture_bytes(value, where)


def args_of_form(form: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The values of a form below a prefix as `args`: "units.1.weight" is in the second item of a list."""
    args: dict[str, Any] = {}
    for path, value in sorted(form.items()):
        if path.startswith(prefix):
            _put(args, path.removeprefix(prefix).split("."), value)
    return args


def _put(place: Any, path: Sequence[str], value: Any) -> None:
    name, *rest = path
    key: Any = int(name) if isinstance(place, list) else name
    while isinstance(place, list) and len(place) <= key:
        place.append({})
    if not rest:
        place[key] = value
        return
    if not isinstance(place, list) and not isinstance(place.get(key), dict | list):
        place[key] = [] if rest[0].isdecimal() else {}
    _put(place[key], rest, value)
