"""What the download page asks the server."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body

from webui.services.downloads import Downloads, check_allowed
from webui.services.services import Services


def download_routes(services: Services, downloads: Downloads) -> APIRouter:
    router = APIRouter(prefix="/easel/v1/downloads", tags=["page"])

    @router.get("")
    def states() -> list[dict[str, Any]]:
        """Every download since the start."""
        return [asdict(state) for state in downloads.states()]

    @router.post("/look")
    def look(address: Annotated[str, Body(embed=True, max_length=4096)]) -> list[dict[str, Any]]:
        """The files behind an address, with sizes."""
        check_allowed(services.flags)
        return [asdict(found) for found in downloads.look(address)]

    @router.post("/start")
    def start(offer: Annotated[str, Body()], kind: Annotated[str, Body()]) -> list[dict[str, Any]]:
        """Download a file that was found."""
        check_allowed(services.flags)
        downloads.start(offer, kind)
        return states()

    @router.post("/again")
    def again(id: Annotated[str, Body(embed=True)]) -> list[dict[str, Any]]:
        """Go on with one that failed or was stopped."""
        check_allowed(services.flags)
        downloads.again(id)
        return states()

    @router.post("/cancel")
    def cancel(id: Annotated[str, Body(embed=True)]) -> list[dict[str, Any]]:
        """Stop one; what has arrived is kept."""
        downloads.cancel(id)
        return states()

    return router
