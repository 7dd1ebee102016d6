"""A1111's routes for what Easel can't do yet: each says in one sentence what is missing."""

from __future__ import annotations

from typing import Any, NoReturn

from fastapi import APIRouter
from pydantic import BaseModel, Field

from webui.api.errors import NotInThisVersion


class TrainingAnswer(BaseModel):
    info: str = Field(description="What came of it")


def unavailable_router() -> APIRouter:
    router = APIRouter(tags=["not in this version"])

    async def create(body: dict[str, Any]) -> NoReturn:
        """Make an empty file to train; not in this version."""
        raise NotInThisVersion("Embeddings and hypernetworks can't be made in this version: there is no training yet.")

    async def train(body: dict[str, Any]) -> NoReturn:
        """Train on a folder of pictures; not in this version."""
        raise NotInThisVersion(
            "Embeddings and hypernetworks can't be trained in this version: there is no training yet."
        )

    for kind in ("embedding", "hypernetwork"):
        router.post(f"/sdapi/v1/create/{kind}", response_model=TrainingAnswer, name=f"create_{kind}")(create)
        router.post(f"/sdapi/v1/train/{kind}", response_model=TrainingAnswer, name=f"train_{kind}")(train)

    @router.get("/sd_extra_networks/cover-images", response_model=None)
    async def cover_images(page: str = "", item: str = "", index: int = 0) -> NoReturn:
        """A picture out of a model file; not in this version."""
        raise NotInThisVersion("Easel doesn't read cover pictures out of model files; put a preview beside the file.")

    @router.get("/sd_extra_networks/get-single-card", response_model=None)
    async def single_card(page: str = "", tabname: str = "", name: str = "") -> NoReturn:
        """The HTML of one of A1111's cards, which Easel's page doesn't have."""
        raise NotInThisVersion("Easel's cards aren't made of A1111's HTML; /easel/v1/cards tells what is on them.")

    @router.get("/internal/profile-startup", response_model=None)
    async def profile_startup() -> NoReturn:
        """How long each part of the start took; not in this version."""
        raise NotInThisVersion("Easel doesn't measure the parts of its start.")

    return router
