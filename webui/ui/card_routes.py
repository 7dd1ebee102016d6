"""What the panes of cards ask the server: JSON, and the previews."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response

from webui.core.errors import InvalidRequest
from webui.services.cards import Cards
from webui.services.services import Services

PREVIEW_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=31536000, immutable",  # the address changes with the picture
}


def card_routes(services: Services) -> APIRouter:
    cards = Cards(services)
    router = APIRouter(prefix="/easel/v1/cards", tags=["page"])

    @router.get("")
    def card_page(
        kind: str, search: str = "", folder: str = "", sort: str = "path", descending: bool = False, start: int = 0
    ) -> dict[str, Any]:
        """Some cards; with the first ones all folders."""
        page = cards.page(
            kind, search=search[:200], folder=folder, sort=sort, descending=descending, start=min(start, 1 << 31)
        )
        folders = {"folders": cards.folders(kind)} if start <= 0 else {}
        return {**folders, **asdict(page)}

    @router.get("/versions")
    def versions() -> dict[str, int]:
        """A number a kind that changes when files come or go."""
        return cards.versions()

    @router.post("/refresh")
    def refresh(kind: Annotated[str, Body(embed=True)]) -> dict[str, int]:
        """Look at every file again."""
        cards.refresh(kind)
        return cards.versions()

    @router.get("/details")
    def details(kind: str, name: str) -> dict[str, Any]:
        """All about one file."""
        return cards.details(kind, name)

    @router.post("/save")
    def save(
        kind: Annotated[str, Body()], name: Annotated[str, Body()], changes: Annotated[dict[str, Any], Body()]
    ) -> dict[str, int]:
        """Change the user's notes on one file."""
        cards.save(kind, name, changes)
        return cards.versions()

    @router.get("/preview")
    def preview(kind: str, name: str) -> Response:
        """The picture of one file."""
        data, mime = cards.preview(kind, name)
        return Response(data, media_type=mime, headers=PREVIEW_HEADERS)

    @router.post("/preview")
    def set_preview(
        kind: Annotated[str, Body()], name: Annotated[str, Body()], picture: Annotated[str, Body()]
    ) -> dict[str, int]:
        """Make a picture, in base64, one file's preview."""
        try:
            data = base64.b64decode(picture, validate=True)
        except ValueError as error:
            raise InvalidRequest("The picture is not valid base64.") from error
        cards.set_preview(kind, name, data)
        return cards.versions()

    return router
