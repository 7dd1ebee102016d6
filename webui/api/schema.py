"""The request bodies of /sdapi/v1, derived from the parameters, and the request that a body means.

A1111's API is one flat object: `hr_scale` there is `request.hires.scale` here. Each parameter's `api`
name and default say where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from typing_extensions import Self

from webui.api.errors import sentence_of
from webui.api.extension_args import Asked, args_of_form, extension_values, group_named
from webui.api.images import picture_bytes
from webui.api.unused import checked_where_used
from webui.core.choices import Choices
from webui.core.errors import InvalidRequest
from webui.core.params import Params, nested_group
from webui.core.request import MAX_SIDE, GenerationRequest, SoftInpainting
from webui.services.forms import EXTENSIONS

HIRES_DENOISING = 0.75  # A1111's API default; its page has 0.7
TAKES_NO_SCRIPTS = {"", "none"}
SOFT_INPAINTING = "soft inpainting"

# Fields that are null unless given, as in A1111's schema; null there means "the page's default".
NULL_UNLESS_GIVEN = frozenset(
    {"sampler_name", "scheduler", "denoising_strength", "hr_upscaler", "refiner_checkpoint", "refiner_switch_at"}
)
GIVEN_PICTURES = ("init_images", "mask", "latent_mask")  # in an answer only if it is asked to include them


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

    _unknown: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _unused_is_not_checked(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(values, dict):
            return handler(values)
        body = checked_where_used(values, handler)
        body._unknown = tuple(name for name in values if name not in cls.model_fields)
        return body

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names in the request that no field has."""
        return self._unknown


class _HiresSwitch(Body):
    enable_hr: bool = Field(False, description="Hires. fix")
    firstphase_width: int = Field(0, ge=0, le=MAX_SIDE, description="First pass; width is the target then")
    firstphase_height: int = Field(0, ge=0, le=MAX_SIDE)
    firstpass_image: str | None = None


class _Pictures(Body):
    init_images: list[str] | None = Field(None, description="Pictures to start from: one, or one an image of the batch")
    denoising_strength: float = Field(0.75, ge=0, le=1, description="Denoising strength")
    mask: str | None = Field(None, description="Where the picture is painted anew")
    latent_mask: str | None = Field(None, description="Where its latent is, if elsewhere than in the mask")
    mask_blur: int | None = Field(None, ge=0, le=1024, description="mask_blur_x and mask_blur_y at once")
    inpainting_mask_invert: int = Field(0, ge=0, le=1, description="1 paints what is not masked")
    include_init_images: bool = Field(False, description="Whether the answer repeats the pictures")
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
        if path[0] not in left_out and api not in base.model_fields:
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
ImageToImageBody = body_model("ImageToImageRequest", _Pictures, without=["hires"])


def request_of(body: Body, extensions: Sequence[type[Params]], choices: Choices) -> GenerationRequest:
    """The request that a body means; `overrides` and `infotext` are left to the caller.

    Raises: InvalidRequest naming the field, its value and what is allowed.
    """
    values = _nested(body)
    name = getattr(body, "sampler_name", None) or body.sampler_index
    sampler, scheduler = choices.find_sampler(name, getattr(body, "scheduler", None))
    values |= {"sampler": sampler.name, "scheduler": scheduler.label}
    scripts = body.alwayson_scripts
    image, hires = values.pop("image", {}), values.pop("hires", {})  # both have a denoising_strength
    if isinstance(body, _Pictures):
        soft = [content for title, content in scripts.items() if title.lower() == SOFT_INPAINTING]
        values["image"] = _image(image, body, soft[-1] if soft else {"args": []})
        scripts = {title: args for title, args in scripts.items() if title.lower() != SOFT_INPAINTING}
    else:
        values |= _hires(hires, body)
    if str(values.get("refiner", {}).get("checkpoint") or "None").lower() == "none":
        values["refiner"] = None
    values["script"], chosen = _script(body, choices)
    asked = extension_values(scripts, extensions)
    return GenerationRequest.checked(
        **values,
        save_samples=body.save_images,
        save_grid=body.save_images,
        remarks=(*asked.remarks, *chosen.remarks),
        extensions=asked.groups | chosen.groups,
    )


def filled_in(body: Body, form: Mapping[str, Any], extensions: Sequence[type[Params]]) -> Body:
    """The body with the fields that it leaves open taken from a form, such as an infotext describes.

    form: values by dotted path in the request, as `webui.services.forms` has them.
    Raises: InvalidRequest for a value that the body's field refuses.
    """
    given = body.model_fields_set
    known = type(body).model_fields
    found = {api: form[".".join(path)] for api, path, _ in api_fields() if api in known and ".".join(path) in form}
    if form.get("hires") and "enable_hr" in known:
        found["enable_hr"] = True
    if "sampler_index" in given:
        found.pop("sampler_name", None)
    named = [group_named(title, extensions) for title in body.alwayson_scripts]
    groups: dict[str, Any] = {}
    for group in extensions:
        args = args_of_form(form, f"{EXTENSIONS}.{group.__name__}.")
        if args and group not in named:
            groups[group.__name__] = {"args": args}
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


def _image(image: Mapping[str, Any], body: _Pictures, soft: Any) -> dict[str, Any]:
    """The pictures to start from and their mask. soft: what alwayson_scripts says of soft inpainting."""
    if not body.init_images:
        raise InvalidRequest("init_images is missing; send at least one picture as base64.")
    pictures = tuple(
        picture_bytes(text, f"init_images[{number}]" if number else "init_images")
        for number, text in enumerate(body.init_images)
    )
    values = {**image, "images": pictures}
    inpaint = values.pop("inpaint", {})
    if body.mask is not None:
        if body.mask_blur is not None:
            inpaint |= {"blur_x": body.mask_blur, "blur_y": body.mask_blur}
        if body.latent_mask is not None:
            inpaint["latent_mask"] = picture_bytes(body.latent_mask, "latent_mask")
        mask = picture_bytes(body.mask, "mask")
        values["inpaint"] = {**inpaint, "mask": mask, "soft": _soft_inpainting(soft)}
    return values


def _soft_inpainting(content: Any) -> SoftInpainting | None:
    """Soft inpainting as its script's arguments say: enabled, then the parameters in order."""
    names = ("enabled", *SoftInpainting.model_fields)
    args = _named_args(SOFT_INPAINTING, content, names)
    enabled = args.pop("enabled", False)
    if not isinstance(enabled, bool):
        raise InvalidRequest(f"alwayson_scripts.{SOFT_INPAINTING}: enabled must be true or false, got {enabled!r}.")
    return SoftInpainting.as_given(**args) if enabled else None


def _script(body: Body, choices: Choices) -> tuple[str, Asked]:
    """The title of the selectable script that the body names, "" for none; its arguments. Raises: InvalidRequest."""
    name = body.script_name or ""
    if name.lower() in TAKES_NO_SCRIPTS:
        return "", Asked()
    script = choices.find_script(name, "img2img" if isinstance(body, _Pictures) else "txt2img")
    if script.params is None:
        return script.title, Asked(remarks=[f"{script.title} takes no script_args."] if body.script_args else [])
    given = {script.params.__name__: {"args": body.script_args}}
    return script.title, extension_values(given, [script.params], "script_args")


def _named_args(title: str, content: Any, names: Sequence[str]) -> dict[str, Any]:
    """A script's arguments by name, given in order or by name. Raises: InvalidRequest."""
    args = content.get("args", {}) if isinstance(content, dict) else None
    if isinstance(args, list) and len(args) <= len(names):
        args = dict(zip(names, args, strict=False))
    if not isinstance(args, dict) or not set(args) <= set(names):
        raise InvalidRequest(
            f"The args of {title} must be up to {len(names)} values, or an object of {', '.join(names)}."
        )
    return args
