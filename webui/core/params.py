"""Parameters declared once: the widget, the API field, and the infotext key derive from `param()`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from typing_extensions import Self

from webui.core import infotext as texts
from webui.core.errors import InvalidRequest
from webui.core.values import KINDS, Choices, ParamSpec, from_text, to_text

Arguments = list[Any] | dict[str, Any]

MOST_IN_JAVASCRIPT = 2**53 - 1
"""The largest whole number that a number of JavaScript's holds exactly."""
MOST_ITEMS = 32
INDEX = "{index}"
_KEY = re.compile(r"[^\W_][\w /-]*[\w/-]")


def param(
    default: Any,
    *,
    label: str,
    infotext: str | None = None,
    api: str | None = None,
    api_default: Any = None,
    ge: float | None = None,
    le: float | None = None,
    step: float | None = None,
    slider: tuple[float, float, float] | None = None,
    choices: Choices | None = None,
    help: str | None = None,
    max_length: int | None = None,
    kind: str = "",
) -> Any:
    """Declare a parameter of a `Params` class; see `ParamSpec` for the meaning of each argument.

    With `ge`, `le` and `step` and no `slider`, the slider spans exactly what is accepted. A name in a catalog of files
    is a text with `choices`: the catalog's list, asked whenever it is shown.
    """
    assert not kind or kind in KINDS, f"no such kind {kind!r}"
    if slider is None and ge is not None and le is not None and step is not None:
        slider = (ge, le, step)
    extra: dict[str, Any] = {
        "label": label,
        "infotext": infotext,
        "api": api,
        "api_default": api_default,
        "slider": slider,
        "choices": choices if choices is None or isinstance(choices, str) or callable(choices) else tuple(choices),
        "help": help,
        "kind": kind or None,
        "is_long": True if le is not None and le > MOST_IN_JAVASCRIPT else None,
    }
    return Field(
        default,
        ge=ge,
        le=le,
        max_length=max_length,
        json_schema_extra={key: value for key, value in extra.items() if value is not None},
    )


def picture(*, label: str, api: str | None = None, help: str | None = None, several: bool = False) -> Any:
    """Declare a picture, or with `several` any number of them: the bytes of a file, `bytes | None` or
    `tuple[bytes, ...]`.

    The page has a place to load it; in the API it is what init_images may be, base64 or a data: URL.
    """
    extra: dict[str, Any] = {"label": label, "kind": "pictures" if several else "picture"}
    extra |= {key: value for key, value in (("api", api), ("help", help)) if value is not None}
    return Field(() if several else None, repr=False, json_schema_extra=extra)


def group_list(
    group: type[Params],
    count: int = 1,
    *,
    defaults: Sequence[Params] = (),
    infotext: str | None = None,
    most: int = MOST_ITEMS,
    count_setting: str | None = None,
) -> Any:
    """Declare a list of groups, `tuple[Unit, ...]`.

    count: how many there are on the page; `defaults` names them one by one instead, where they differ.
    infotext: the key of each in a picture's text, with "{index}" for its place: "ControlNet {index}".
    most: how many a request may have. count_setting: the key of a setting that says how many the page has.
    """
    items = tuple(defaults) or tuple(group() for _ in range(count))
    assert infotext is None or INDEX in infotext, f"{infotext!r} lacks {INDEX}"
    extra: dict[str, Any] = {"items": infotext or "", "count_setting": count_setting or ""}
    return Field(items, max_length=most, json_schema_extra=extra)


class Params(BaseModel):
    """A frozen group of parameters. A changed group is a new, validated one: `params.replace(scale=2)`.

    `class Blur(Params, title="Soft corners")` has a title to be shown; else the docstring's first line is it.
    forgiving: the API ignores parameters that this group doesn't know, and says so in a comment, as the extension
        of A1111's did that this one stands in for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    forgiving: ClassVar[bool] = False

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Like the constructor, with an `InvalidRequest` sentence in place of pydantic's report."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise InvalidRequest("; ".join(cls._sentence(problem) for problem in error.errors()) + ".") from error

    @classmethod
    def as_given(cls, **values: Any) -> Self:
        """Like `checked`, with whole numbers kept as int: infotexts write 7 where 7 was given, and 7.0 for 7.0."""
        checked = cls.checked(**values)
        floats = {name: value for name, value in vars(checked).items() if isinstance(value, float)}
        whole = {name: values[name] for name in floats if type(values.get(name)) is int}
        return checked.model_copy(update=whole)

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed and everything checked again. Raises: InvalidRequest."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).as_given(**{**values, **changes})

    @classmethod
    def specs(cls, prefix: tuple[str, ...] = ()) -> Iterator[ParamSpec]:
        """Every parameter declared with `param()` or `picture()`, those of nested groups included, in order.

        Those of a list of groups come once for each that the default has, with its defaults and without a key of
        their own: the text of a picture tells each item of a list as a whole.
        """
        for name, field in cls.model_fields.items():
            items = listed_group(field.annotation)
            if items is not None:
                for index, item in enumerate(field.default):
                    yield from item.specs_here((*prefix, name, str(index)))
                continue
            group = nested_group(field.annotation)
            if group is not None:
                yield from group.specs((*prefix, name))
            elif (spec := _spec_of((*prefix, name), field)) is not None:
                yield spec

    def specs_here(self, prefix: tuple[str, ...] = ()) -> Iterator[ParamSpec]:
        """The parameters with this group's values as their defaults, without infotext keys."""
        for spec in type(self).specs():
            value: Any = self
            for part in spec.path:
                value = getattr(value, part, None) if not part.isdecimal() else value[int(part)]
            yield replace(spec, path=(*prefix, *spec.path), default=value, infotext=None)

    # What a client of the API sends

    @classmethod
    def from_api(cls, args: Arguments) -> Mapping[str, Any]:
        """Values by name from what the API's alwayson_scripts holds: values in order, or by name.

        Values may be as raw as they came: pictures in base64, the items of a list of groups as their own `from_api`
        takes them. To be replaced by groups that stand in for an extension of A1111's with another order of arguments.
        Raises: InvalidRequest.
        """
        if isinstance(args, dict):
            return args
        if len(args) > len(cls.model_fields):
            raise InvalidRequest(
                f"The args of {title_of(cls)} must be up to {len(cls.model_fields)} values, or an object of them."
            )
        return dict(zip(cls.model_fields, args, strict=False))

    @classmethod
    def default_args(cls) -> Sequence[Any] | None:
        """The values in order that /sdapi/v1/script-info lists, at their defaults; None for one a parameter.

        To be replaced along with `from_api` where that takes another order.
        """
        return None

    # The text of a picture

    def to_infotext(self, *, everything: bool = False) -> Mapping[str, object]:
        """What a picture's text tells of these values, by key: those with a key that differ from their defaults.

        everything: those that don't, too. That is asked of a group that may be absent, and of an item of a list that
        differs from its default or has none.
        """
        told: dict[str, object] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            pattern, items = _items_key(field), listed_group(field.annotation)
            if items is not None:
                for index, item in enumerate(value if pattern else ()):
                    if index >= len(field.default) or item != field.default[index]:
                        told[pattern.replace(INDEX, str(index))] = texts.line(item.to_infotext(everything=True))
            elif isinstance(value, Params):
                told |= value.to_infotext(everything=everything or field.default is None)
                continue
            spec = _spec_of((name,), field)
            if spec is not None and spec.infotext and (everything or value != spec.default):
                plain = isinstance(value, bool | int | float)
                told[spec.infotext] = value if plain else to_text(value, spec.infotext)
        return told

    @classmethod
    def from_infotext(cls, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Values by dotted path, of what the fields tell. The opposite of `to_infotext`.

        Raises: InvalidRequest naming what can't be read.
        """
        found: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            pattern, items = _items_key(field), listed_group(field.annotation)
            group = nested_group(field.annotation)
            if items is not None and pattern:
                for index, text in _told_items(pattern, fields):
                    inner = items.from_infotext(texts.fields_in(text))
                    found |= {f"{name}.{index}.{path}": value for path, value in inner.items()}
            elif items is None and group is not None:
                inner = group.from_infotext(fields)
                if inner and field.default is None:
                    found[name] = True
                found |= {f"{name}.{path}": value for path, value in inner.items()}
            elif (spec := _spec_of((name,), field)) is not None and spec.infotext:
                told = texts.field_text(fields, spec.infotext)
                if told is not None:
                    found[name] = _read(spec, told)
        return found

    @classmethod
    def reads_key(cls, key: str) -> bool:
        """Whether `from_infotext` makes something of a field of this name. To be replaced along with it."""
        for field in cls.model_fields.values():
            pattern, items = _items_key(field), listed_group(field.annotation)
            group = nested_group(field.annotation)
            if items is not None:
                if pattern and re.fullmatch(_item_pattern(pattern), key):
                    return True
            elif group is not None:
                if group.reads_key(key):
                    return True
            elif (spec := _spec_of(("",), field)) is not None and spec.infotext == key:
                return True
        return False

    @classmethod
    def infotext_keys(cls) -> Iterator[str]:
        """Every declared key, those of lists with "{index}" in them."""
        for field in cls.model_fields.values():
            items, group = listed_group(field.annotation), nested_group(field.annotation)
            spec = _spec_of(("",), field)
            if items is not None:
                yield from filter(None, [_items_key(field)])
            elif group is not None:
                yield from group.infotext_keys()
            elif spec is not None and spec.infotext:
                yield spec.infotext

    @classmethod
    def _sentence(cls, problem: ErrorDetails) -> str:
        """'Width (width) must be greater than or equal to 8, got 5.' from one of pydantic's reports."""
        where = tuple(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            return f"{title_of(cls)} has no parameter {'.'.join(where)}"
        label = next((f"{spec.label} ({spec.dotted})" for spec in cls.specs() if spec.path == where), ".".join(where))
        value = repr(problem["input"])
        shown = value if len(value) <= 80 else value[:77] + "..."
        reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        return f"{label} must be {reason}, got {shown}"


def title_of(group: type[Params]) -> str:
    """What a group is called on the page and in the API: its title, its docstring's first line, or its name."""
    title = group.model_config.get("title")
    return title or (group.__doc__ or group.__name__).strip().splitlines()[0].rstrip(".")


def nested_group(annotation: Any) -> type[Params] | None:
    """The `Params` class in an annotation such as `HiresFix` or `HiresFix | None`."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Params) and candidate is not Params:
            return candidate
    return None


def listed_group(annotation: Any) -> type[Params] | None:
    """The `Params` class in an annotation such as `tuple[Unit, ...]`."""
    return nested_group(annotation) if get_origin(annotation) is tuple else None


def can_be_key(key: str) -> bool:
    """Whether a picture's text can tell a field of this name so that it is read again."""
    return _KEY.fullmatch(key.replace(INDEX, "0")) is not None


def _spec_of(path: tuple[str, ...], field: FieldInfo) -> ParamSpec | None:
    extra = field.json_schema_extra
    if not isinstance(extra, dict) or "label" not in extra:
        return None
    return ParamSpec(path, field.annotation, field.default, **extra)  # type: ignore[arg-type]


def _items_key(field: FieldInfo) -> str:
    """The infotext key of a list's items, "" for none."""
    extra = field.json_schema_extra
    return str(extra.get("items", "")) if isinstance(extra, dict) else ""


def count_setting(field: FieldInfo) -> str:
    """The key of the setting that says how many items of a list the page has, "" for none."""
    extra = field.json_schema_extra
    return str(extra.get("count_setting", "")) if isinstance(extra, dict) else ""


def _item_pattern(pattern: str) -> str:
    return re.escape(pattern).replace(re.escape(INDEX), r"(\d{1,3})")


def _told_items(pattern: str, fields: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for key, text in fields.items():
        match = re.fullmatch(_item_pattern(pattern), key)
        if match:
            yield int(match[1]), str(text)


def _read(spec: ParamSpec, text: str) -> Any:
    """Raises: InvalidRequest for a text that the parameter can't have."""
    try:
        value = from_text(spec.annotation, text)
    except ValueError:
        raise InvalidRequest(f"{spec.infotext}: {text}") from None
    if isinstance(spec.choices, tuple) and spec.type is str and value not in spec.choices and value is not None:
        raise InvalidRequest(f"{spec.infotext}: {text}")
    return value
