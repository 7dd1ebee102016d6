"""How far the running job is, and stopping it: /sdapi/v1/progress and the page's own /internal routes.

These handlers never wait, so they run in the event loop and answer however busy the server is.
"""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from webui.core.errors import NotFound
from webui.jobs.progress import Progress
from webui.services.services import Services

IDLE_STATE = {
    "skipped": False,
    "interrupted": False,
    "stopping_generation": False,
    "job": "",
    "job_count": 0,
    "job_timestamp": "0",
    "job_no": 0,
    "sampling_step": 0,
    "sampling_steps": 0,
}
JOB_NAMES = {"txt2img": "scripts_txt2img", "img2img": "scripts_img2img"}  # as A1111 calls them


class ProgressAnswer(BaseModel):
    progress: float = Field(description="The part done, 0 to 1")
    eta_relative: float = Field(description="Seconds to go")
    state: dict[str, Any]
    current_image: str | None = Field(None, description="The latest preview in base64")
    textinfo: str | None = None


class TaskQuestion(BaseModel):
    id_task: str | None = Field(None, max_length=200, description="The job to ask for")
    id_live_preview: int = Field(-1, description="Number of the preview the client has")
    live_preview: bool = Field(True, description="Whether to send a newer one")


class TaskAnswer(BaseModel):
    active: bool
    queued: bool
    completed: bool
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = None
    id_live_preview: int | None = None
    textinfo: str | None = None


def progress_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["jobs"])

    @router.get("/progress", response_model=ProgressAnswer)
    async def progress(skip_current_image: bool = False) -> dict[str, Any]:
        """The job that runs now, in A1111's terms."""
        return job_progress(services.jobs.current(), with_image=not skip_current_image)

    @router.post("/interrupt")
    async def interrupt() -> dict[str, Any]:
        """Stop the running job after its step; what it has so far is its result."""
        services.jobs.interrupt()
        return {}

    @router.post("/skip")
    async def skip() -> None:
        """Leave the picture in work and go on with the next one of the batch."""
        services.jobs.skip()

    return router


def page_router(services: Services) -> APIRouter:
    """What A1111's page asks its server."""
    router = APIRouter(prefix="/internal", tags=["page"])

    @router.get("/ping")
    async def ping() -> dict[str, Any]:
        return {}

    @router.get("/pending-tasks")
    async def pending_tasks() -> dict[str, Any]:
        tasks = services.jobs.pending()
        return {"size": len(tasks), "tasks": list(tasks)}

    @router.post("/progress", response_model=TaskAnswer)
    async def task_progress(question: TaskQuestion) -> TaskAnswer:
        """Where one job is; a job nobody knows is neither active, queued nor completed."""
        return answer_about(services, question)

    return router


def job_progress(job: Progress | None, *, with_image: bool) -> dict[str, Any]:
    """The body of /sdapi/v1/progress; None is an idle server."""
    if job is None:
        return {"progress": 0.0, "eta_relative": 0.0, "state": IDLE_STATE, "current_image": None, "textinfo": None}
    preview = base64.b64encode(job.preview.data).decode() if with_image and job.preview else None
    return {
        "progress": job.api_fraction,
        "eta_relative": job.api_eta_seconds or 0.0,
        "state": {
            "skipped": job.skipped,
            "interrupted": job.interrupted,
            "stopping_generation": job.stopping,
            "job": JOB_NAMES.get(job.title, job.title),
            "job_count": job.job_count,
            "job_timestamp": job.job_timestamp,
            "job_no": job.job_no,
            "sampling_step": job.step,
            "sampling_steps": job.steps,
        },
        "current_image": preview,
        "textinfo": job.text or None,
    }


def answer_about(services: Services, question: TaskQuestion) -> TaskAnswer:
    try:
        job = services.jobs.progress(question.id_task or "")
    except NotFound:
        return TaskAnswer(active=False, queued=False, completed=False, id_live_preview=-1, textinfo="Waiting...")
    if job.state == "queued":
        text = f"In queue: {job.queue_position}/{max(len(services.jobs.pending()), job.queue_position)}"
        return TaskAnswer(active=False, queued=True, completed=False, id_live_preview=-1, textinfo=text)
    if job.ended:
        return TaskAnswer(active=False, queued=False, completed=True, id_live_preview=-1, textinfo="Waiting...")
    answer = TaskAnswer(
        active=True,
        queued=False,
        completed=False,
        progress=job.fraction,
        eta=job.eta_seconds,
        id_live_preview=question.id_live_preview,
        textinfo=job.text or None,
    )
    preview = job.preview
    if question.live_preview and preview is not None and preview.number != question.id_live_preview:
        answer.live_preview = f"data:{preview.mime};base64,{base64.b64encode(preview.data).decode()}"
        answer.id_live_preview = preview.number
    return answer
