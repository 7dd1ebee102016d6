"""/sdapi/v1/interrogate: what a picture shows, in words."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from webui.api.images import picture_bytes
from webui.api.waiting import Waiters
from webui.services.describing import describe
from webui.services.services import Services


class InterrogateRequest(BaseModel):
    image: str = Field("", description="A picture in base64")
    model: str = Field("clip", description="clip, deepdanbooru, or the name of a tagger")


class CaptionAnswer(BaseModel):
    caption: str


def describing_router(services: Services, waiters: Waiters) -> APIRouter:
    router = APIRouter(tags=["extras"])

    @router.post("/sdapi/v1/interrogate")
    async def interrogate(body: InterrogateRequest) -> CaptionAnswer:
        """Describe a picture."""
        picture = picture_bytes(body.image, "image")
        return CaptionAnswer(caption=await waiters.run(describe, services, picture, body.model))

    return router
