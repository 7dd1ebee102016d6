"""Parameters declared once: the widget, the API field, and the infotext key derive from `param()`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import Self

from webui.core.errors import InvalidRequest

MOST_IN_JAVASCRIPT = 2**53 - 1
"""The largest whole number that a number of JavaScript's holds exactly."""


@dataclass(frozen=True)
class ParamSpec:
    """What is known of one parameter besides its value.

    path: attribute names from the outermost group, e.g. ("hires", "scale").
    slider: (minimum, maximum, step) offered in the page; ge and le are the limits of what is accepted.
    choices: fixed choices, or the name of a list that changes ("samplers", "checkpoints", ...).
    api: the name in /sdapi/v1; api_default: the default there where it differs from the page's.
    is_long: a whole number of up to 64 bits, which JavaScript's numbers can't hold.
    """

    path: tuple[str, ...]
    annotation: Any
    default: Any
    label: str
    infotext: str | None = None
    api: str | None = None
    api_default: Any = None
    slider: tuple[float, float, float] | None = None
    choices: tuple[str, ...] | str | None = None
    help: str | None = None
    is_long: bool = False

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def dotted(self) -> str:
        return ".".join(self.path)


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
    choices: Sequence[str] | str | None = None,
    help: str | None = None,
    max_length: int | None = None,
) -> Any:
    """Declare a parameter of a `Params` class; see `ParamSpec` for the meaning of each argument.

    With `ge`, `le` and `step` and no `slider`, the slider spans exactly what is accepted.
    """
    if slider is None and ge is not None and le is not None and step is not None:
        slider = (ge, le, step)
    extra = {
        "label": label,
        "infotext": infotext,
        "api": api,
        "api_default": api_default,
        "slider": slider,
        "choices": choices if choices is None or isinstance(choices, str) else tuple(choices),
        "help": help,
        "is_long": True if le is not None and le > MOST_IN_JAVASCRIPT else None,
    }
    return Field(
        default,
        ge=ge,
        le=le,
        max_length=max_length,
        json_schema_extra={key: value for key, value in extra.items() if value is not None},
    )


class Params(BaseModel):
    """A frozen group of parameters. A changed group is a new, validated one: `params.replace(scale=2)`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

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
        """Every parameter declared with `param()`, those of nested groups included, in order."""
        for name, field in cls.model_fields.items():
            group = nested_group(field.annotation)
            if group is not None:
                yield from group.specs((*prefix, name))
                continue
            extra = field.json_schema_extra
            if isinstance(extra, dict) and "label" in extra:
                yield ParamSpec((*prefix, name), field.annotation, field.default, **extra)  # type: ignore[arg-type]

    @classmethod
    def _sentence(cls, problem: ErrorDetails) -> str:
        """'Width (width) must be greater than or equal to 8, got 5.' from one of pydantic's reports."""
        where = tuple(str(part) for part in problem["loc"])
        label = next((f"{spec.label} ({spec.dotted})" for spec in cls.specs() if spec.path == where), ".".join(where))
        value = repr(problem["input"])
        shown = value if len(value) <= 80 else value[:77] + "..."
        reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        return f"{label} must be {reason}, got {shown}"


def nested_group(annotation: Any) -> type[Params] | None:
    """The `Params` class in an annotation such as `HiresFix` or `HiresFix | None`."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Params):
            return candidate
    return None
