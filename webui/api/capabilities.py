"""/easel/v1/capabilities: what a checkpoint is and can do, told without loading it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from webui.services.capabilities import CHOSEN, offer_of
from webui.services.services import Services


class CapabilitiesAnswer(BaseModel):
    checkpoint: str = Field(description="Title in the list")
    family: str | None = Field(description="sd1, sd2, sdxl, sdxl-refiner, sd3, ...; null when it can't be loaded")
    family_title: str | None = Field(description="The family as users call it")
    capabilities: dict[str, Any] | None = Field(
        description="Prediction, native size, latent channels, input kind, ...; prediction is null when only the "
        "loaded model can tell"
    )
    samplers: list[str] = Field(description="Those that it can be sampled with")
    schedulers: list[str] = Field(description="Labels of the schedules that it can be sampled with")
    problem: str | None = Field(description="Why it can't be loaded")


def capabilities_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/easel/v1", tags=["models"])

    @router.get("/capabilities")
    def capabilities(checkpoint: str = "") -> CapabilitiesAnswer:
        """checkpoint: any spelling that finds it in the list; without one the checkpoint in use."""
        catalog = services.checkpoints
        found = catalog.find(checkpoint) if checkpoint else catalog.default(services.settings.snapshot()[CHOSEN] or "")
        offer = offer_of(found, services.choices)
        return CapabilitiesAnswer(
            checkpoint=found.title,
            family=offer.family.id if offer.family else None,
            family_title=offer.family.title if offer.family else None,
            capabilities=asdict(offer.capabilities) if offer.capabilities else None,
            samplers=list(offer.samplers),
            schedulers=list(offer.schedules),
            problem=offer.problem,
        )

    return router
