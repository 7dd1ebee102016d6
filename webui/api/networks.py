"""LoRAs, embeddings and hypernetworks: what there is, and looking for new files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from webui.catalog.networks import EmbeddingFacts
from webui.core.texts import shown_name
from webui.services.services import Services


def networks_router(services: Services) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["networks"])
    networks = services.networks

    @router.get("/loras")
    def loras() -> list[dict[str, Any]]:
        return [
            {
                "name": file.stem,
                "alias": networks.loras.facts(file).alias or file.stem,
                "path": shown_name(str(file.path)),
                "metadata": networks.loras.metadata(file),
            }
            for file in networks.loras.all()
        ]

    @router.post("/refresh-loras")
    def refresh_loras() -> None:
        networks.loras.refresh()

    @router.get("/embeddings")
    def embeddings() -> dict[str, Any]:
        """Embeddings that fit the loaded model, and those that are for others; all fit before one is loaded."""
        return {
            "loaded": _described(networks.embeddings.loaded()),
            "skipped": _described(networks.embeddings.skipped()),
        }

    @router.post("/refresh-embeddings")
    def refresh_embeddings() -> None:
        networks.embeddings.refresh()

    @router.get("/hypernetworks")
    def hypernetworks() -> list[dict[str, Any]]:
        return [{"name": file.stem, "path": shown_name(str(file.path))} for file in networks.hypernetworks.all()]

    return router


def _described(embeddings: Mapping[str, EmbeddingFacts]) -> dict[str, Any]:
    return {
        name: {
            "step": facts.step,
            "sd_checkpoint": facts.sd_checkpoint,
            "sd_checkpoint_name": facts.sd_checkpoint_name,
            "shape": facts.shape,
            "vectors": facts.vectors,
        }
        for name, facts in embeddings.items()
    }
