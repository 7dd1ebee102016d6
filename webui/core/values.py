"""The one type system of parameters and settings: how a value is shown, and how a text says it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin

KINDS: Final = (
    *("checkbox", "slider", "number", "textbox", "color", "radio", "dropdown", "checkboxgroup", "multiselect"),
    *("picture", "pictures"),
)
"""How the page shows a value."""

Choices: TypeAlias = "Sequence[str] | str | Callable[[], Sequence[str]]"

TYPES: Final = (bool, int, float, str, bytes, tuple)


@dataclass(frozen=True)
class ParamSpec:
    """What is known of one parameter besides its value.

    path: attribute names from the outermost group, e.g. ("hires", "scale"); ("units", "0", "weight") in a list.
    slider: (minimum, maximum, step) offered in the page; ge and le are the limits of what is accepted.
    choices: fixed choices, the name of a list that changes ("samplers", "checkpoints", ...), or a function that gives
        the choices there are now.
    api: the name in /sdapi/v1; api_default: the default there where it differs from the page's.
    is_long: a whole number of up to 64 bits, which JavaScript's numbers can't hold.
    kind: one of KINDS, how the page shows it; "" for what its type suggests.
    """

    path: tuple[str, ...]
    annotation: Any
    default: Any
    label: str
    infotext: str | None = None
    api: str | None = None
    api_default: Any = None
    slider: tuple[float, float, float] | None = None
    choices: tuple[str, ...] | str | Callable[[], Sequence[str]] | None = None
    help: str | None = None
    kind: str = ""
    is_long: bool = False

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def type(self) -> type:
        """One of bool, int, float, str, bytes, tuple."""
        return value_type(self.annotation)

    @property
    def optional(self) -> bool:
        return is_optional(self.annotation)

    @property
    def shown_as(self) -> str:
        """One of KINDS."""
        slides = self.slider is not None
        return self.kind or natural_kind(self.annotation, slides=slides, chosen=bool(self.choices))


def value_type(annotation: Any) -> type:
    """Which of TYPES an annotation such as `float | None`, `Literal["a", "b"]` or `tuple[str, ...]` means."""
    for candidate in (annotation, *get_args(annotation)):
        origin = get_origin(candidate) or candidate
        if origin is Literal:
            return type(get_args(candidate)[0])
        if origin in TYPES:
            return origin  # type: ignore[no-any-return]
    return object


def is_optional(annotation: Any) -> bool:
    """Whether None is a value."""
    return NoneType in get_args(annotation)


def is_pictures(annotation: Any) -> bool:
    """Whether it means several pictures, `tuple[bytes, ...]`."""
    return any(get_origin(item) is tuple and bytes in get_args(item) for item in (annotation, *get_args(annotation)))


def natural_kind(annotation: Any, *, slides: bool, chosen: bool) -> str:
    """How a value is shown if nobody says otherwise. slides: it has a range. chosen: there is a list of choices."""
    kind = value_type(annotation)
    if kind is bytes:
        return "picture"
    if kind is tuple:
        return "pictures" if is_pictures(annotation) else "multiselect"
    if chosen:
        return "dropdown"
    if kind is bool:
        return "checkbox"
    if kind in (int, float):
        return "slider" if slides else "number"
    return "textbox"


def to_text(value: Any, key: str = "") -> str:
    """How an infotext says a value; `from_text` reads it. key: under which it is written.

    A text that would be lost (empty, blank at its ends, in quotes, equal to its key) is written as JSON.
    """
    if isinstance(value, list | tuple):
        return _list_to_text(value)
    text = str(value)
    if not isinstance(value, str):
        return text
    safe = text and text == text.strip() and text[0] != '"' and text != key and text.isprintable()
    return text if safe else json.dumps(text)


def from_text(annotation: Any, text: str) -> Any:
    """The value of the annotation's type that a text says. Raises: ValueError when it says none."""
    kind = value_type(annotation)
    if is_optional(annotation) and text == "None":
        return None
    if kind is bool:
        return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _no_value(text)
    if kind in (int, float):
        return _number(text, whole=kind is int)
    if kind is tuple:
        return _list_from_text(text)
    return _unquoted(text)


def _no_value(text: str) -> Any:
    raise ValueError(f"{text[:80]!r} is no value of this kind")


def _number(text: str, *, whole: bool) -> int | float:
    """Whole numbers stay int, as in `Params.as_given`."""
    if "_" in text:  # which Python reads in numbers
        _no_value(text)
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not math.isfinite(number) or (whole and not number.is_integer()):
        _no_value(text)
    return int(number) if whole else number


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def _list_to_text(values: Sequence[Any]) -> str:
    texts = [str(value) for value in values]
    plain = all(text and text == text.strip() and "," not in text and text.isprintable() for text in texts)
    joined = ", ".join(texts)
    return joined if plain and joined[:1] not in ("[", '"') else json.dumps(texts)


def _list_from_text(text: str) -> tuple[str, ...]:
    if text[:1] == "[":
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return tuple(found)
    return tuple(part.strip() for part in text.split(",") if part.strip())
