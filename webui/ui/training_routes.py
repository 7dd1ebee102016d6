"""What the Train tab asks the server."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from webui.services import generation
from webui.services.services import Services
from webui.services.training import Trainings

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
        return Response(trainings.sample(id, index), media_type="image/png")

    @router.post("/import")
    def import_toml(kind: Annotated[str, Body()], text: Annotated[str, Body(max_length=1_000_000)]) -> dict[str, Any]:
        """The values in a file of kohya's."""
        return trainings.import_toml(kind, text)

    @router.post("/export")
    def export_toml(
        kind: Annotated[str, Body()], values: Values, trigger: Annotated[str, Body(max_length=500)] = ""
    ) -> dict[str, str]:
        """A file for kohya's trainers."""
        return trainings.export_toml(kind, values, trigger)

    return router
