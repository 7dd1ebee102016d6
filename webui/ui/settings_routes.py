"""What the Settings tab asks the server; assets/settings_form.js draws the form from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body

from webui.services.options import change_each
from webui.services.services import Services
from webui.services.settings_form import settings_form, values_of


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

    return router
