"""/easel/v1/queue: what waits, runs and has ended, and results for whoever comes back for them."""

from __future__ import annotations

import base64
import json
from typing import Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from webui.services.generation import generation_result
from webui.services.queue import queue_facts, take_out, thumbnail
from webui.services.services import Services

JOB = Query(max_length=200, description="The job's id")


class QueuedJob(BaseModel):
    id: str
    title: str
    kind: str
    state: str = Field(description="queued, running, done, failed, cancelled or parked")
    progress: float = Field(description="The part done, 0 to 1")
    attempt: int = Field(description="2 when the job runs again because the server had ended")
    error: str | None
    ended_at: float | None = Field(description="Seconds since 1970")
    artifacts: list[str] = Field(description="Files that the job made beside its pictures")


class QueueAnswer(BaseModel):
    trouble: str = Field(description="Why no job is begun or kept; empty when all is well")
    jobs: list[QueuedJob] = Field(description="What runs, what waits in its order, what has ended, the latest first")


class ResultAnswer(BaseModel):
    images: list[str] = Field(description="The pictures in base64")
    paths: list[str | None] = Field(description="Where each is saved on the server")
    info: str = Field(description="Facts about the job, as JSON")
    comments: list[str]


def queue_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/easel/v1/queue", tags=["jobs"])

    @router.get("", response_model=QueueAnswer)
    async def queue() -> dict[str, Any]:
        return queue_facts(services)

    @router.get("/result", response_model=ResultAnswer)
    def result(id: str = JOB) -> dict[str, Any]:
        """What a job made, also one of before the server's last start."""
        made = generation_result(services, id)
        return {
            "images": [base64.b64encode(image.data).decode("ascii") for image in made.images],
            "paths": [image.path for image in made.images],
            "info": json.dumps(dict(made.info), allow_nan=False),
            "comments": list(made.comments),
        }

    @router.get("/thumbnail")
    def small_picture(id: str = JOB) -> Response:
        """A small JPEG of the job's first picture."""
        return Response(thumbnail(services, id), media_type="image/jpeg", headers={"Cache-Control": "max-age=60"})

    @router.post("/cancel")
    def cancel(id: str = JOB) -> None:
        """Take a waiting job out, or end a running one after its step."""
        take_out(services, id)

    @router.post("/again")
    def again(id: str = JOB) -> None:
        """Queue a job that has ended once more, with the same seeds."""
        services.jobs.run_again(id)

    @router.post("/move")
    def move(
        id: str = JOB, before: str | None = Query(None, max_length=200, description="Nothing for the end")
    ) -> None:
        """Put a waiting job before another one."""
        services.jobs.move(id, before)

    return router
