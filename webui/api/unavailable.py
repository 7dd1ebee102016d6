"""A1111's routes for what Easel can't do yet: each says in one sentence what is missing."""

from __future__ import annotations

from typing import NoReturn

from fastapi import APIRouter

from webui.api.errors import NotInThisVersion


def unavailable_router() -> APIRouter:
    router = APIRouter(tags=["not in this version"])

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
