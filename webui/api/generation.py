"""/sdapi/v1/txt2img and img2img: a body becomes a job, the job's result the answer."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import string
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from webui.api.effects import idle_fields
from webui.api.options import known_settings
from webui.api.schema import GIVEN_PICTURES, Body, ImageToImageBody, TextToImageBody, filled_in, request_of
from webui.api.waiting import Waiters
from webui.core.request import GenerationResult
from webui.core.results import ResultFile, Role
from webui.services.forms import OVERRIDES, overrides_from_lines
from webui.services.generation import generation_result, submit_generation
from webui.services.infotexts import form_from_infotext
from webui.services.options import CHECKPOINT, allowed_changes, change_settings
from webui.services.services import Services

STAYS = Query(False, description="End the job after its step when the client goes away")
LOOK_EVERY = 0.1
ID_LETTERS = string.ascii_uppercase + string.digits


class FileAnswer(BaseModel):
    name: str = Field(description="The file's name")
    role: Role = Field(description="What it is")
    mime: str = Field(description="Its type, such as video/mp4")
    data: str = Field(description="Its content in base64")


class PicturesAnswer(BaseModel):
    images: list[str] = Field(description="The pictures in base64, the grid first if there is one")
    parameters: dict[str, Any] = Field(description="The request, with what was left open at its default")
    info: str = Field(
        description="Facts about the job, as JSON; `comments` are sentences about what went otherwise than asked"
    )
    files: list[FileAnswer] = Field([], description="Videos, sound and text; left out where there are none")


def generation_router(services: Services, waiters: Waiters) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["pictures"])

    @router.post("/txt2img", response_model=PicturesAnswer)
    async def txt2img(
        body: TextToImageBody,  # type: ignore[valid-type]  # made from the parameters
        request: Request,
        cancel_on_disconnect: bool = STAYS,
    ) -> Response:
        """Make pictures from a prompt. The job goes on when the client goes away, unless it is told otherwise."""
        return await answered(body, request, cancel_on_disconnect)

    @router.post("/img2img", response_model=PicturesAnswer)
    async def img2img(
        body: ImageToImageBody,  # type: ignore[valid-type]  # made from the parameters
        request: Request,
        cancel_on_disconnect: bool = STAYS,
    ) -> Response:
        """Make pictures from pictures, whole or where a mask says. The job goes on when the client goes away."""
        return await answered(body, request, cancel_on_disconnect)

    async def answered(body: Body, request: Request, cancel_on_disconnect: bool) -> Response:
        mode = "img2img" if isinstance(body, ImageToImageBody) else "txt2img"
        job_id = body.force_task_id or new_task_id(mode)
        watch = interrupting(services, job_id, request) if cancel_on_disconnect else nullcontext()
        with watch:
            return await waiters.run(make_pictures, services, body, job_id)

    return router


@contextmanager
def interrupting(services: Services, job_id: str, request: Request) -> Iterator[None]:
    """While inside, the job ends after its step once the client is gone."""

    async def watch() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(LOOK_EVERY)
        services.jobs.interrupt(job_id)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


def make_pictures(services: Services, body: Body, job_id: str) -> Response:
    """Queue the body's request, wait for its pictures, and answer. Raises: WebuiError."""
    comments = list(idle_fields(body))
    overrides: dict[str, Any] = {}
    if body.infotext:
        form = form_from_infotext(body.infotext, services).form
        overrides = overrides_from_lines(form.get(OVERRIDES, ()), services.settings.snapshot())
        body = filled_in(body, form, services.host.params)
    known, unknown = known_settings(services, body.override_settings or {})
    overrides |= known
    request = request_of(body, services.host.params, services.choices)
    request = request.replace(overrides=job_settings(services, overrides))
    submit_generation(services, request, job_id)
    services.jobs.wait(job_id)
    result = generation_result(services, job_id)
    if not body.override_settings_restore_afterwards:
        change_settings(services, request.overrides)
    return answer(body, result, [*comments, *unknown, *result.comments])


def job_settings(services: Services, wished: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one job, checked; null for the checkpoint leaves it. Raises: as `allowed_changes`."""
    settings = allowed_changes(services, wished)
    if settings.get(CHECKPOINT, ...) is None:
        del settings[CHECKPOINT]
    return settings


def new_task_id(mode: str) -> str:
    return f"task({mode}-{''.join(secrets.choice(ID_LETTERS) for _ in range(7))})"


def answer(body: Body, result: GenerationResult, comments: Sequence[str]) -> Response:
    """The answer's JSON, put together without copying the pictures more often than needed.

    comments: sentences for the user; `info` has them only where there are any, as A1111 has no such key.
    """
    told = {"comments": list(dict.fromkeys(comments))} if comments else {}
    pictures, files = (result.images, result.files) if body.send_images else ((), ())
    left_out = set() if getattr(body, "include_init_images", False) else {*GIVEN_PICTURES}
    parameters = body.model_dump(mode="json", exclude=left_out)
    content: dict[str, Any] = {
        "images": [_base64(picture) for picture in pictures],
        "parameters": parameters | {name: None for name in left_out if name in type(body).model_fields},
        "info": json.dumps({**result.info, **told}, allow_nan=False),
    }
    if files:
        content["files"] = [
            {"name": file.name, "role": file.role, "mime": file.mime, "data": _base64(file)} for file in files
        ]
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")


def _base64(file: ResultFile) -> str:
    return base64.b64encode(file.data).decode("ascii")
