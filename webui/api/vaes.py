"""The VAE files there are."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from webui.core.texts import shown_name
from webui.services.services import Services


def vaes_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["checkpoints"])

    @router.get("/sd-vae")
    def sd_vae() -> list[dict[str, Any]]:
        return [{"model_name": file.file_name, "filename": shown_name(str(file.path))} for file in services.vaes.all()]

    @router.post("/refresh-vae")
    def refresh_vae() -> None:
        """Look for VAE files again."""
        services.vaes.refresh()

    return router
