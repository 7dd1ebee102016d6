"""A1111's routes to make and train embeddings and hypernetworks, with the arguments of its functions by name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from webui.api.waiting import Waiters
from webui.core.training import Kind
from webui.services.services import Services
from webui.services.training_page import Trainings


class CreateAnswer(BaseModel):
    info: str = Field(description="What came of it")


class TrainAnswer(BaseModel):
    info: str = Field(description="What came of it")


def training_router(services: Services, waiters: Waiters) -> APIRouter:
    router = APIRouter(tags=["training"])
    trainings = Trainings(services)

    @router.post("/sdapi/v1/create/embedding")
    async def create_embedding(body: dict[str, Any]) -> CreateAnswer:
        """Make an embedding: name, num_vectors_per_token, init_text, overwrite_old."""
        return CreateAnswer(info=await waiters.run(_create, trainings, "embedding", body))

    @router.post("/sdapi/v1/create/hypernetwork")
    async def create_hypernetwork(body: dict[str, Any]) -> CreateAnswer:
        """Make a hypernetwork: name, enable_sizes, layer_structure, activation_func, weight_init, ..."""
        return CreateAnswer(info=await waiters.run(_create, trainings, "hypernetwork", body))

    @router.post("/sdapi/v1/train/embedding")
    async def train_embedding(body: dict[str, Any]) -> TrainAnswer:
        """Train an embedding; answers when that has ended."""
        return TrainAnswer(info=await waiters.run(_train, trainings, "embedding", body))

    @router.post("/sdapi/v1/train/hypernetwork")
    async def train_hypernetwork(body: dict[str, Any]) -> TrainAnswer:
        """Train a hypernetwork; answers when that has ended."""
        return TrainAnswer(info=await waiters.run(_train, trainings, "hypernetwork", body))

    return router


def _create(trainings: Trainings, kind: Kind, args: dict[str, Any]) -> str:
    result = trainings.wait(trainings.create(kind, {key: value for key, value in args.items() if value is not None}))
    return f"create {kind} filename: {result.files[-1]}"


def _train(trainings: Trainings, kind: Kind, args: dict[str, Any]) -> str:
    result = trainings.wait(trainings.train_by_api(kind, args))
    return f"train {kind} complete: filename: {result.files[-1] if result.files else None} {result.message}"
