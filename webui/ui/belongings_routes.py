"""What the page asks and tells of the forms and jobs that a user left on it, on whatever device."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from webui.services.services import Services
from webui.ui.visitors.visitors import Visitors


def belongings_routes(services: Services, visitors: Visitors) -> APIRouter:
    router = APIRouter(prefix="/easel/v1/mine", tags=["page"])

    @router.get("")
    def left(request: Request) -> dict[str, Any]:
        """Tab -> the form as it was left, and the last job; nothing where nobody logs in."""
        return dict(services.belongings.left_by(visitors.owner(request.scope)))

    @router.post("")
    def leave(
        request: Request,
        tab: Annotated[str, Body(max_length=100)],
        changes: Annotated[dict[str, str | None], Body()],
    ) -> None:
        """Keep the form or the last job of a tab, each as the page's own text; null takes it away."""
        services.belongings.leave(visitors.owner(request.scope), tab, changes)

    return router
