"""/sdapi/v1/options: reading and changing the settings, and which of them a client may change."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Response

from webui.api.waiting import Waiters
from webui.core.effects import changed, ineffective
from webui.core.errors import NotFound, nearest
from webui.core.settings import shown
from webui.services.options import CHECKPOINT, HASH, change_settings
from webui.services.services import Services

log = logging.getLogger(__name__)

NOTES = "X-Easel-Notes"
"""Header with what was passed over, as a JSON list of sentences: the body stays A1111's null."""
MOST_NOTES = 20
NOTES_HEADER = {"description": "What was passed over: a JSON list of sentences", "schema": {"type": "string"}}


def options_router(services: Services, waiters: Waiters) -> APIRouter:
    router = APIRouter(prefix="/sdapi/v1", tags=["settings"])

    @router.get("/options")
    def get_options() -> dict[str, Any]:
        """Every setting. The checkpoint is the one in use, also where the setting leaves it open."""
        options = dict(services.settings.snapshot())
        try:
            checkpoint = services.checkpoints.default(options[CHECKPOINT] or "")
        except NotFound:
            return options
        return options | {CHECKPOINT: checkpoint.title, HASH: checkpoint.sha256 or ""}

    @router.post("/options", response_model=None, responses={200: {"headers": {NOTES: NOTES_HEADER}}})
    async def set_options(changes: dict[str, Any], response: Response) -> None:
        """Change settings, all or none. A new checkpoint is loaded before the answer comes.

        Settings that there aren't, as A1111's extensions have them, are passed over and named in the header
        X-Easel-Notes, and so are changed ones that have no effect.
        """
        known, notes = known_settings(services, changes)
        notes += ineffective(changed(known, services.settings.snapshot()))
        await waiters.run(change_settings, services, known)
        if notes:
            log.warning("Settings changed over the API: %s", " ".join(notes))
            response.headers[NOTES] = header_of(notes)

    return router


def known_settings(services: Services, wished: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Those of the wished settings that there are, and a sentence for each of the others."""
    table = services.settings.snapshot().table
    unknown = [key for key in wished if key not in table]
    notes = [
        f"There is no setting {shown(key)}{nearest(key[:100], table)}; it was passed over."
        for key in unknown[:MOST_NOTES]
    ]
    if len(unknown) > MOST_NOTES:
        notes.append(f"{len(unknown) - MOST_NOTES} more unknown settings were passed over.")
    return {key: value for key, value in wished.items() if key in table}, notes


def header_of(notes: Sequence[str]) -> str:
    """The first notes as JSON in ASCII, short enough for every client."""
    kept = list(notes)[:MOST_NOTES]
    while len(text := json.dumps(kept)) > 4000:
        kept.pop()
    return text
