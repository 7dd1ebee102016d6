"""The request bodies of /sdapi/v1, derived from the parameters, and the request that a body means.

A1111's API is one flat object: `hr_scale` there is `request.hires.scale` here. Each parameter's `api`
name and default say where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from webui.api.errors import sentence_of
from webui.core.choices import find_sampler
from webui.core.errors import InvalidRequest, nearest
from webui.core.params import Params, nested_group
from webui.core.request import MAX_SIDE, GenerationRequest
from webui.desk.forms import EXTENSIONS

HIRES_DENOISING = 0.75  # A1111's API default; its page has 0.7
TAKES_NO_SCRIPTS = {"", "None"}
BUILT_IN_SCRIPTS = frozenset({"refiner", "sampler", "seed"})  # the request's own fields; A1111 ignores their args here

# Fields that are null unless given, as in A1111's schema; null there means "the page's default".
NULL_UNLESS_GIVEN = frozenset(
    {"sampler_name", "scheduler", "denoising_strength", "hr_upscaler", "refiner_checkpoint", "refiner_switch_at"}
)


class Body(BaseModel):
    """What all generation bodies share. Unknown fields are ignored, null means the default."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    sampler_index: str = Field("Euler", description="Sampler, where sampler_name is not given")
    script_name: str | None = None
    script_args: list[Any] = []
    send_images: bool = Field(True, description="Whether the answer holds the pictures")
    save_images: bool = Field(False, description="Whether pictures are saved on the server")
    alwayson_scripts: dict[str, Any] = Field({}, description='Extensions: {"title": {"args": [...] or {...}}}')
    force_task_id: str | None = Field(None, max_length=200, description="Id to watch the job under")
    infotext: str | None = Field(None, max_length=400_000, description="Text of a picture; fills what is not given")
    override_settings: dict[str, Any] | None = Field(None, description="Settings for this job")
    override_settings_restore_afterwards: bool = True
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    comments: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None}


class _HiresSwitch(Body):
    enable_hr: bool = Field(False, description="Hires. fix")
    firstphase_width: int = Field(
        0, ge=0, le=MAX_SIDE, multiple_of=8, description="First pass; width is the target then"
    )
    firstphase_height: int = Field(0, ge=0, le=MAX_SIDE, multiple_of=8)
    firstpass_image: str | None = None


def api_fields(
    group: type[Params] = GenerationRequest, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[str, ...], FieldInfo]]:
    """(API name, path in the request, declaration) of every parameter that the API knows."""
    for name, field in group.model_fields.items():
        inner = nested_group(field.annotation)
        extra = field.json_schema_extra
        if inner is not None:
            yield from api_fields(inner, (*prefix, name))
        elif isinstance(extra, dict) and isinstance(extra.get("api"), str):
            yield str(extra["api"]), (*prefix, name), field


def body_model(name: str, base: type[Body], without: Iterable[str]) -> type[Body]:
    """A body with the fields of `base` and all parameters but those in the groups `without`."""
    left_out = set(without)
    fields: dict[str, Any] = {}
    for api, path, field in api_fields():
        if path[0] not in left_out:
            extra = field.json_schema_extra
            assert isinstance(extra, dict)
            default = extra.get("api_default", field.default)
            annotation: Any = field.annotation
            if api in NULL_UNLESS_GIVEN:
                default, annotation = None, annotation | None
            typed = Annotated[(annotation, *field.metadata)] if field.metadata else annotation
            fields[api] = (typed, Field(default, description=str(extra["label"])))
    model: type[Body] = create_model(name, __base__=base, **fields)
    return model


TextToImageBody = body_model("TextToImageRequest", _HiresSwitch, without=["image"])


def request_of(body: Body, extensions: Sequence[type[Params]]) -> GenerationRequest:
    """The request that a body means; `overrides` and `infotext` are left to the caller.

    Raises: InvalidRequest naming the field, its value and what is allowed.
    """
    values = _nested(body)
    name = getattr(body, "sampler_name", None) or body.sampler_index
    sampler, scheduler = find_sampler(name, getattr(body, "scheduler", None))
    values |= {"sampler": sampler.name, "scheduler": scheduler.label}
    if isinstance(body, _HiresSwitch):
        values.pop("image", None)  # img2img's denoising_strength has the same name
    values |= _hires(values.pop("hires", {}), body)
    if not values.get("refiner", {}).get("checkpoint"):
        values["refiner"] = None
    _check_script(body.script_name)
    return GenerationRequest.checked(
        **values,
        save_samples=body.save_images,
        save_grid=body.save_images,
        extensions=extension_values(body.alwayson_scripts, extensions),
    )


def filled_in(body: Body, form: Mapping[str, Any]) -> Body:
    """The body with the fields that it leaves open taken from a form, such as an infotext describes.

    form: values by dotted path in the request, as `webui.desk.forms` has them.
    Raises: InvalidRequest for a value that the body's field refuses.
    """
    given = body.model_fields_set
    known = type(body).model_fields
    found = {api: form[".".join(path)] for api, path, _ in api_fields() if api in known and ".".join(path) in form}
    if form.get("hires") and "enable_hr" in known:
        found["enable_hr"] = True
    if "sampler_index" in given:
        found.pop("sampler_name", None)
    named = {title.lower() for title in body.alwayson_scripts}
    groups: dict[str, Any] = {}
    for field, value in form.items():
        prefix, _, rest = field.partition(".")
        name, _, parameter = rest.partition(".")
        if prefix == EXTENSIONS and parameter and name.lower() not in named:
            groups.setdefault(name, {"args": {}})["args"][parameter] = value
    open_fields = {api: value for api, value in found.items() if api not in given}
    values = body.model_dump(exclude_unset=True) | open_fields
    values["alwayson_scripts"] = {**body.alwayson_scripts, **groups}
    try:
        return type(body).model_validate(values)
    except ValidationError as error:
        raise InvalidRequest("; ".join(sentence_of(item) for item in error.errors()) + ".") from error


def _nested(body: Body) -> dict[str, Any]:
    """The body's parameters in the request's shape; null ones are left to the request's own defaults."""
    values: dict[str, Any] = {}
    for api, path, _ in api_fields():
        value = getattr(body, api, None)
        if value is not None and api in type(body).model_fields:
            group = values
            for part in path[:-1]:
                group = group.setdefault(part, {})
            group[path[-1]] = value
    return values


def _hires(hires: Mapping[str, Any], body: Body) -> dict[str, Any]:
    """The second pass, and the first one's size where the old firstphase fields give it."""
    if not isinstance(body, _HiresSwitch) or not body.enable_hr:
        return {"hires": None}
    hires = {"denoising_strength": HIRES_DENOISING, **hires}
    first = body.firstphase_width, body.firstphase_height
    if not any(first):
        return {"hires": hires}
    if not all(first):
        raise InvalidRequest("firstphase_width and firstphase_height belong together; give both or neither.")
    target = {"resize_width": getattr(body, "width", 0), "resize_height": getattr(body, "height", 0)}
    return {"width": first[0], "height": first[1], "hires": {**hires, **target}}


def _check_script(name: str | None) -> None:
    if name is not None and name not in TAKES_NO_SCRIPTS:
        raise InvalidRequest(f"Script '{name[:100]}' not found: this version has no selectable scripts.")


def extension_values(asked: Mapping[str, Any], extensions: Sequence[type[Params]]) -> dict[str, Params]:
    """The parameter groups that alwayson_scripts names. "args" are values in order, or by name.

    Raises: InvalidRequest for an unknown title, or for values that the group refuses.
    """
    known = {group.__name__.lower(): group for group in extensions}
    found: dict[str, Params] = {}
    for title, content in asked.items():
        group = known.get(title.lower())
        if group is None and title.lower() in BUILT_IN_SCRIPTS:
            continue
        if group is None:
            close = nearest(title, [other.__name__ for other in extensions])
            raise InvalidRequest(f"Script '{title[:100]}' not found{close}.")
        args = content.get("args", {}) if isinstance(content, dict) else None
        if isinstance(args, list) and len(args) <= len(group.model_fields):
            args = dict(zip(group.model_fields, args, strict=False))
        if not isinstance(args, dict) or not all(isinstance(name, str) for name in args):
            count = len(group.model_fields)
            raise InvalidRequest(f"alwayson_scripts.{title}.args must be up to {count} values, or an object of them.")
        found[group.__name__] = group.checked(**args)
    return found
