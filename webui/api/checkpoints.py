"""The checkpoints there are, and having the current one loaded or not."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from webui.api.waiting import Waiters
from webui.core.texts import shown_name
from webui.jobs.kinds import JobKind
from webui.services.kinds import LOAD, UNLOAD
from webui.services.services import Services


def checkpoints_router(services: Services, waiters: Waiters) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["checkpoints"])

    @router.get("/sd-models")
    def sd_models() -> list[dict[str, Any]]:
        return [
            {
                "title": item.title,
                "model_name": item.model_name,
                "hash": item.shorthash,
                "sha256": item.sha256,
                "filename": shown_name(str(item.path)),
                "config": shown_name(str(item.config)) if item.config else None,
            }
            for item in services.checkpoints.all()
        ]

    @router.post("/refresh-checkpoints")
    def refresh_checkpoints() -> None:
        """Look for checkpoints again; hashes that aren't known yet are computed meanwhile."""
        services.checkpoints.refresh()
        services.checkpoints.hash_in_background()

    @router.post("/unload-checkpoint")
    async def unload_checkpoint() -> dict[str, Any]:
        """Give the model's memory back once the jobs before are done; the next job loads it again."""
        await waiters.run(run_job, services, UNLOAD)
        return {}

    @router.post("/reload-checkpoint")
    async def reload_checkpoint() -> dict[str, Any]:
        """Load the current checkpoint if it isn't."""
        await waiters.run(run_job, services, LOAD)
        return {}

    return router


def run_job(services: Services, kind: JobKind) -> None:
    """Submit housekeeping and wait for it. Raises: the job's own WebuiError."""
    services.jobs.result(services.jobs.submit(kind, None), None)
