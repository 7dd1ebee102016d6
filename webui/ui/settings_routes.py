"""What the Settings tab asks the server; assets/settings_form.js draws the form from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body
from fastapi.responses import FileResponse

from webui.core.errors import NotFound
from webui.services.housekeeping import ACTIONS, all_licenses
from webui.services.options import change_each
from webui.services.services import Services
from webui.services.settings_form import settings_form, values_of

SOUND = "notification.mp3"
"""A file that users may put into the data folder: it is played when pictures are done."""


def settings_routes(services: Services, tabs: Sequence[str]) -> APIRouter:
    """tabs: the titles of the page's tabs."""
    router = APIRouter(prefix="/easel/v1/settings", tags=["page"])

    @router.get("")
    def form() -> dict[str, Any]:
        """Every setting with its section, label, range, choices and value."""
        return settings_form(services, tabs)

    @router.post("")
    def change(changes: Annotated[dict[str, Any], Body(embed=True)]) -> dict[str, Any]:
        """Change settings, each for itself: those that may not be so are named, the others are saved."""
        return {**asdict(change_each(services, changes)), "values": values_of(services)}

    @router.post("/actions")
    def act(action: Annotated[Literal["unload", "load", "hash"], Body(embed=True)]) -> dict[str, str]:
        """Unload or load the checkpoint, or compute the hashes of all; says what happens."""
        return {"told": ACTIONS[action](services)}

    @router.get("/licenses")
    def licenses() -> list[dict[str, str]]:
        """Easel's own licence and those of the packages it runs on."""
        return [{"name": name, "text": text} for name, text in all_licenses(services.paths.code)]

    @router.get(f"/{SOUND}", response_class=FileResponse)
    def sound() -> Path:
        """What is played when pictures are done."""
        path = services.paths.data / SOUND
        if not path.is_file():
            raise NotFound(f"There is no {SOUND} in the data folder.")
        return path

    return router
