"""/sdapi/v1/extra-single-image and extra-batch-images: pictures made larger."""

from __future__ import annotations

import base64
from html import escape
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, create_model, model_validator
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import Self

from webui.api.extension_args import extension_values
from webui.api.images import picture_bytes
from webui.api.schema import api_fields
from webui.api.unused import checked_where_used
from webui.api.waiting import Waiters
from webui.core.extras import MOST_PICTURES, ExtrasRequest, PictureSource
from webui.core.request import GenerationResult
from webui.services.extras import step_groups, submit_extras
from webui.services.generation import generation_result
from webui.services.services import Services


class FileData(BaseModel):
    data: str = Field(description="A picture in base64")
    name: str = Field(description="The file's name")


class SingleAnswer(BaseModel):
    html_info: str = Field(description="What was done, as HTML")
    image: str | None = Field(None, description="The picture in base64; null without show_extras_results")


class BatchAnswer(BaseModel):
    html_info: str = Field(description="What was done, as HTML")
    images: list[str] = Field(description="The pictures in base64")


class _Operations(BaseModel):
    """Unknown fields are ignored, null means the default."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _unused_is_not_checked(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        return checked_where_used(values, check)


def _body(name: str, **more: Any) -> type[_Operations]:
    """The parameters of the Extras tab that the API knows, and `more` fields."""
    fields: dict[str, Any] = {}
    for api, _, field in api_fields(ExtrasRequest):
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        typed: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        fields[api] = (typed, Field(extra.get("api_default", field.default), description=str(extra["label"])))
    model: type[_Operations] = create_model(name, __base__=_Operations, **fields, **more)
    return model


STEPS: Any = (
    SkipJsonSchema[dict[str, Any]],
    Field({}),
)  # {"title": {"args": [...] or {...}}}; not among A1111's fields
SingleBody = _body(
    "ExtrasSingleImageRequest", image=(str, Field("", description="A picture in base64")), extensions=STEPS
)
BatchBody = _body(
    "ExtrasBatchImagesRequest", imageList=(list[FileData], Field(max_length=MOST_PICTURES)), extensions=STEPS
)


def extras_router(services: Services, waiters: Waiters) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["extras"])

    @router.post("/extra-single-image")
    async def extra_single_image(body: SingleBody) -> SingleAnswer:  # type: ignore[valid-type]  # made from the parameters
        """Work on one picture. Nothing is saved on the server."""
        values = body.model_dump()  # type: ignore[attr-defined]
        source = PictureSource("image", picture_bytes(values.pop("image"), "image"))
        result = await waiters.run(_make, services, values, (source,))
        image = _base64(result)[0] if result.images else None
        return SingleAnswer(html_info=_told(result), image=image)

    @router.post("/extra-batch-images")
    async def extra_batch_images(body: BatchBody) -> BatchAnswer:  # type: ignore[valid-type]
        """Work on several pictures alike. Nothing is saved on the server."""
        values = body.model_dump()  # type: ignore[attr-defined]
        files = values.pop("imageList")
        named = [(file["name"], f"imageList.{index}.data", file["data"]) for index, file in enumerate(files)]
        sources = tuple(PictureSource(name, picture_bytes(data, field)) for name, field, data in named)
        result = await waiters.run(_make, services, values, sources)
        return BatchAnswer(html_info=_told(result), images=_base64(result))

    return router


def _make(services: Services, values: dict[str, Any], sources: tuple[PictureSource, ...]) -> GenerationResult:
    """values: by the API's names. Raises: WebuiError."""
    names = {api: path[-1] for api, path, _ in api_fields(ExtrasRequest)}
    steps = extension_values(values.pop("extensions"), step_groups(services), "extensions")
    given = {names[api]: value for api, value in values.items()}
    request = ExtrasRequest.checked(**given, sources=sources, save=False, extensions=steps.groups)
    job_id = submit_extras(services, request)
    services.jobs.wait(job_id)
    return generation_result(services, job_id)


def _base64(result: GenerationResult) -> list[str]:
    return [base64.b64encode(picture.data).decode("ascii") for picture in result.images]


def _told(result: GenerationResult) -> str:
    lines = [*dict.fromkeys(result.info["infotexts"]), *result.comments]
    return "".join(f"<p>{escape(line)}</p>" for line in lines if line)
