"""/sdapi/v1/png-info: how a picture or a video was made, read from the file itself."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from webui.api.images import picture_bytes
from webui.services.file_texts import read_file_texts
from webui.services.infotexts import fields_of
from webui.services.services import Services


class PictureBody(BaseModel):
    image: str = Field(description="A picture or a video in base64")


class PngInfoAnswer(BaseModel):
    info: str = Field(description="The picture's infotext, empty if it has none")
    items: dict[str, str] = Field(description="The other texts in the picture")
    parameters: dict[str, Any] = Field(description="The infotext's fields")


def png_info_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["pictures"])

    @router.post("/png-info")
    def png_info(body: PictureBody) -> PngInfoAnswer:
        infotext, items = read_file_texts(picture_bytes(body.image, "image"))
        if infotext is None:
            return PngInfoAnswer(info="", items=items, parameters={})
        return PngInfoAnswer(info=infotext, items=items, parameters=fields_of(infotext, services))

    return router
