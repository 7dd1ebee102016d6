"""What the Train tab asks the server."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from webui.services import generation
from webui.services.caption_files import captions_in, describe_missing, save_caption, thumbnail
from webui.services.services import Services
from webui.services.training_page import Trainings

PREVIEW_HEADERS = {"Content-Security-Policy": "sandbox; default-src 'none'", "Cache-Control": "private, no-cache"}
Values = Annotated[dict[str, Any], Body()]
Job = Annotated[str, Body(max_length=200)]


def training_routes(services: Services) -> APIRouter:
    trainings = Trainings(services)
    router = APIRouter(prefix="/easel/v1/training", tags=["page"])

    @router.get("/form")
    def form(name: str) -> dict[str, Any]:
        """The fields of a sub-tab, and its presets."""
        return trainings.form(name)

    @router.post("/look")
    def look(
        kind: Annotated[str, Body()], values: Values, trigger: Annotated[str, Body(max_length=500)] = ""
    ) -> dict[str, Any]:
        """What a training would be made from, and what is wrong with it."""
        return trainings.look(kind, values, trigger)

    @router.post("/start")
    def start(
        kind: Annotated[str, Body()],
        values: Values,
        job: Job,
        trigger: Annotated[str, Body(max_length=500)] = "",
    ) -> dict[str, Any]:
        """Submit a training under an id that the page drew."""
        return trainings.start(kind, values, trigger, job)

    @router.post("/stop")
    def stop(job: Annotated[str, Body(embed=True, max_length=200)]) -> dict[str, Any]:
        """Interrupt a training; what it has learnt is saved."""
        generation.stop(services, job or None)
        return {}

    @router.post("/create_embedding")
    def create_embedding(values: Values, job: Job) -> dict[str, Any]:
        """Make an embedding to be trained."""
        return trainings.create("embedding", values, job)

    @router.post("/create_hypernetwork")
    def create_hypernetwork(values: Values, job: Job) -> dict[str, Any]:
        """Make a hypernetwork to be trained."""
        return trainings.create("hypernetwork", values, job)

    @router.post("/train_embedding")
    def train_embedding(values: Values, job: Job) -> dict[str, Any]:
        """Train an embedding as A1111's tab does."""
        return trainings.train("embedding", values, job)

    @router.post("/train_hypernetwork")
    def train_hypernetwork(values: Values, job: Job) -> dict[str, Any]:
        """Train a hypernetwork as A1111's tab does."""
        return trainings.train("hypernetwork", values, job)

    @router.get("/result")
    def result(id: str) -> dict[str, Any]:
        """How a training ended."""
        return trainings.result(id)

    @router.get("/sample")
    def sample(id: str, index: int) -> Response:
        """A sample picture of a training that has ended."""
        data, mime = trainings.sample(id, index)
        return Response(data, media_type=mime, headers=PREVIEW_HEADERS)

    @router.post("/compare")
    def compare(
        trained: Annotated[str, Body(max_length=200)], prompt: Annotated[str, Body(max_length=10_000)], job: Job
    ) -> dict[str, Any]:
        """Pictures of the same seed without what was trained and at each saved epoch, in a job of an id drawn here."""
        return trainings.compare(trained, prompt, job)

    @router.post("/import")
    def import_toml(text: Annotated[str, Body(embed=True, max_length=1_000_000)]) -> dict[str, Any]:
        """The values in a file of kohya's."""
        return trainings.import_toml(text)

    @router.post("/export")
    def export_toml(
        kind: Annotated[str, Body()], values: Values, trigger: Annotated[str, Body(max_length=500)] = ""
    ) -> list[dict[str, str]]:
        """Files for kohya's trainers."""
        return trainings.export_toml(kind, values, trigger)

    @router.get("/captions")
    def captions(folder: str) -> dict[str, Any]:
        """The pictures of a folder, each with its caption."""
        return captions_in(services, folder)

    @router.post("/captions")
    def save(
        folder: Annotated[str, Body(max_length=4096)],
        name: Annotated[str, Body(max_length=4096)],
        text: Annotated[str, Body()],
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
        folder: Annotated[str, Body(max_length=4096)],
        captioner: Annotated[str, Body(max_length=200)],
        job: Job,
        batch_size: Annotated[int, Body(ge=1, le=64)] = 1,
        workers: Annotated[int, Body(ge=1, le=16)] = 1,
    ) -> dict[str, Any]:
        """Describe the pictures that have no caption, in a job of an id that the page drew."""
        describe_missing(services, folder, captioner, job, batch_size=batch_size, workers=workers)
        return {"message": f"{captioner} describes the pictures without a caption."}

    return router
