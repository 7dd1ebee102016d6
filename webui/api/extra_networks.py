"""/sd_extra_networks: what A1111's cards ask, for clients that ask it too."""

from __future__ import annotations

import json

from fastapi import APIRouter, Response
from pydantic import BaseModel

from webui.services.cards import Cards
from webui.services.services import Services

PAGES = {
    "lora": "lora",
    "textual inversion": "textual_inversion",
    "hypernetworks": "hypernetworks",
    "checkpoints": "checkpoints",
}
"""A1111's name of a page of cards -> ours."""


class MetadataAnswer(BaseModel):
    metadata: str | None = None


def extra_networks_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/sd_extra_networks", tags=["networks"])
    cards = Cards(services)

    @router.get("/metadata", response_model_exclude_none=True)
    def metadata(page: str = "", item: str = "") -> MetadataAnswer:
        """The header of a model file as JSON text; {} for what has none or isn't there."""
        found = cards.metadata(PAGES[page.lower()], item) if page.lower() in PAGES else {}
        return MetadataAnswer(metadata=json.dumps(found, indent=4, ensure_ascii=False) if found else None)

    @router.get("/thumb", response_class=Response, responses={200: {"content": {"image/*": {}}}})
    def thumb(filename: str = "") -> Response:
        """The preview of a model, by the path of the picture. Nothing but previews is handed out."""
        data, mime = cards.preview_at(filename)
        return Response(data, media_type=mime, headers={"Cache-Control": "private, max-age=3600"})

    return router
