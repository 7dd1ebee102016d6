"""/sdapi/v1/options: reading and changing the settings, and which of them a client may change."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Response

from webui.api.waiting import Waiters
from webui.catalog.vaes import AUTOMATIC, NONE, vae_wish
from webui.core.effects import changed, ineffective
from webui.core.errors import InvalidRequest, NotFound, Refused, nearest
from webui.core.settings import Setting, shown
from webui.services.generation import choose_checkpoint
from webui.services.services import Services

log = logging.getLogger(__name__)

NOTES = "X-Easel-Notes"
"""Header with what was passed over, as a JSON list of sentences: the body stays A1111's null."""
MOST_NOTES = 20
CHECKPOINT = "sd_model_checkpoint"
VAE = "sd_vae"
HASH = "sd_checkpoint_hash"  # follows from the checkpoint

# Settings that delete files or decide which code runs; those that name places say so themselves (Setting.reaches).
NOT_FROM_OUTSIDE = frozenset({"clean_temp_dir_at_start", "disabled_extensions", "disable_all_extensions"})


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


def change_settings(services: Services, wished: Mapping[str, Any]) -> None:
    """Save the changes and wait for a changed checkpoint to load.

    Raises: InvalidRequest, Refused, NotFound, then nothing has changed; the load's own error, then the
    checkpoint is the one that was loaded before.
    """
    changes = allowed_changes(services, wished)
    before = services.settings.snapshot()[CHECKPOINT]
    title = changes.pop(CHECKPOINT, before)
    services.settings.update(changes)
    if title is None:
        services.settings.update({CHECKPOINT: None})
    elif title != before:
        services.jobs.result(choose_checkpoint(services, title), None)


def allowed_changes(services: Services, wished: Mapping[str, Any]) -> dict[str, Any]:
    """The wished settings, checked, a checkpoint under its title.

    Restricted settings may be named as long as their value stays: clients send back all that they got.
    Raises: InvalidRequest (unknown key, bad value), Refused (restricted), NotFound (checkpoint).
    """
    current = services.settings.snapshot()
    wanted = current.replace(**wished)
    changes = {key: wanted[key] for key in wished if key != HASH}
    patterns = services.flags.hide_ui_dir_config
    for key, value in changes.items():
        if value != current[key] and is_restricted(current.setting(key), patterns=patterns):
            raise Refused(
                f'Setting "{key}" can only be changed on the Settings page or in {services.paths.config.name}.'
            )
    if changes.get(CHECKPOINT):
        changes[CHECKPOINT] = services.checkpoints.find(changes[CHECKPOINT]).title
    elif changes.get(CHECKPOINT) == "":
        raise InvalidRequest(f'Setting "{CHECKPOINT}" can\'t be ""; it must be the name of a checkpoint, or null.')
    if VAE in changes:
        wish = vae_wish(changes[VAE])
        known = wish in (current[VAE], AUTOMATIC, NONE)
        changes[VAE] = wish if known else services.vaes.find(wish).name
    return changes


def is_restricted(setting: Setting, *, patterns: bool = False) -> bool:
    """Whether the API may not change it: folders, files, what code runs, and the rules for fetching pictures.

    patterns: names of files count too (--hide-ui-dir-config).
    """
    places = ("folder", "file", "name") if patterns else ("folder", "file")
    return setting.restrict_api or setting.reaches in places or setting.key in NOT_FROM_OUTSIDE
