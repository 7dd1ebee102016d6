"""What the Train tab asks the server."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response

from webui.core.training import NetworkKind
from webui.services import generation
from webui.services.caption_files import captions_in, describe_missing, save_caption, thumbnail
from webui.services.services import Services
from webui.services.training_log import log_from
from webui.services.training_page import Trainings

PREVIEW_HEADERS = {"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "private, no-cache"}
LONGEST_LOG = 2**40
Values = Annotated[dict[str, Any], Body()]
Job = Annotated[str, Body(max_length=200)]
Trigger = Annotated[str, Body(max_length=500)]
Folder = Annotated[str, Body(max_length=4096)]


def training_routes(services: Services) -> APIRouter:
    router = APIRouter(prefix="/easel/v1/training", tags=["page"])
    trainings = Trainings(services)
    _add_forms(router, trainings)
    _add_jobs(router, services, trainings)
    _add_results(router, services, trainings)
    _add_captions(router, services)
    return router


def _add_forms(router: APIRouter, trainings: Trainings) -> None:
    @router.get("/form")
    def form(name: str) -> dict[str, Any]:
        """The fields of a sub-tab, and its presets."""
        return trainings.form(name)

    @router.post("/look")
    def look(kind: Annotated[str, Body()], values: Values, trigger: Trigger = "") -> dict[str, Any]:
        """What a training would be made from, and what is wrong with it."""
        return trainings.look(kind, values, trigger)

    @router.post("/import")
    def import_toml(text: Annotated[str, Body(embed=True, max_length=1_000_000)]) -> dict[str, Any]:
        """The values in a file of kohya's."""
        return trainings.import_toml(text)

    @router.post("/export")
    def export_toml(kind: Annotated[str, Body()], values: Values, trigger: Trigger = "") -> list[dict[str, str]]:
        """Files for kohya's trainers."""
        return trainings.export_toml(kind, values, trigger)


def _add_jobs(router: APIRouter, services: Services, trainings: Trainings) -> None:
    """Each job has an id that the page drew."""

    @router.post("/start")
    def start(kind: Annotated[str, Body()], values: Values, job: Job, trigger: Trigger = "") -> dict[str, Any]:
        """Submit a training."""
        return trainings.start(kind, values, trigger, job)

    @router.post("/stop")
    def stop(job: Annotated[str, Body(embed=True, max_length=200)]) -> dict[str, Any]:
        """Interrupt a training; what it has learnt is saved."""
        generation.stop(services, job or None)
        return {}

    @router.post("/create_{kind}")
    def create(kind: NetworkKind, values: Values, job: Job) -> dict[str, Any]:
        """Make an embedding or a hypernetwork to be trained."""
        return trainings.create(kind, values, job)

    @router.post("/train_{kind}")
    def train(kind: NetworkKind, values: Values, job: Job) -> dict[str, Any]:
        """Train an embedding or a hypernetwork as A1111's tab does."""
        return trainings.train(kind, values, job)

    @router.post("/compare")
    def compare(
        trained: Annotated[str, Body(max_length=200)], prompt: Annotated[str, Body(max_length=10_000)], job: Job
    ) -> dict[str, Any]:
        """Pictures of the same seed without what was trained and at each saved epoch."""
        return trainings.compare(trained, prompt, job)


def _add_results(router: APIRouter, services: Services, trainings: Trainings) -> None:
    @router.get("/log")
    def log(id: str, offset: Annotated[int, Query(ge=0, le=LONGEST_LOG)] = 0) -> dict[str, Any]:
        """A training's steps so far, with their losses, from a place in its log on."""
        return log_from(services, id, offset)

    @router.get("/result")
    def result(id: str) -> dict[str, Any]:
        """How a training ended."""
        return trainings.result(id)

    @router.get("/sample")
    def sample(id: str, index: int) -> Response:
        """A sample picture of a training that has ended."""
        data, mime = trainings.sample(id, index)
        return Response(data, media_type=mime, headers=PREVIEW_HEADERS)


def _add_captions(router: APIRouter, services: Services) -> None:
    @router.get("/captions")
    def captions(folder: str) -> dict[str, Any]:
        """The pictures of a folder, each with its caption."""
        return captions_in(services, folder)

    @router.post("/captions")
    def save(
        folder: Folder, name: Annotated[str, Body(max_length=4096)], text: Annotated[str, Body()]
    ) -> dict[str, Any]:
        """Write the caption of one picture."""
        save_caption(services, folder, name, text)
        return {}

    @router.get("/captions/picture")
    def picture(folder: str, name: str) -> Response:
        """A small picture to stand beside its caption."""
        return Response(thumbnail(services, folder, name), media_type="image/jpeg", headers=PREVIEW_HEADERS)

    @router.post("/captions/describe")
    def describe(
        folder: Folder,
        captioner: Annotated[str, Body(max_length=200)],
        job: Job,
        batch_size: Annotated[int, Body(ge=1, le=64)] = 1,
        workers: Annotated[int, Body(ge=1, le=16)] = 1,
    ) -> dict[str, Any]:
        """Describe the pictures that have no caption, in a job of an id that the page drew."""
        describe_missing(services, folder, captioner, job, batch_size=batch_size, workers=workers)
        return {"message": f"{captioner} describes the pictures without a caption."}
