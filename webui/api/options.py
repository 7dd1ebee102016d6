"""/sdapi/v1/options: reading and changing the settings, and which of them a client may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from webui.api.waiting import Waiters
from webui.catalog.vaes import AUTOMATIC, NONE
from webui.core.errors import InvalidRequest, NotFound, Refused
from webui.core.settings import Setting
from webui.services.generation import choose_checkpoint
from webui.services.services import Services

CHECKPOINT = "sd_model_checkpoint"
VAE = "sd_vae"
HASH = "sd_checkpoint_hash"  # follows from the checkpoint

# Settings that delete files or decide which code runs; those that name places say so themselves (Setting.reaches).
NOT_FROM_OUTSIDE = frozenset({"clean_temp_dir_at_start", "disabled_extensions", "disable_all_extensions"})


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

    @router.post("/options")
    async def set_options(changes: dict[str, Any]) -> None:
        """Change settings, all or none. A new checkpoint is loaded before the answer comes."""
        await waiters.run(change_settings, services, changes)

    return router


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
    if changes.get(VAE) not in (None, current[VAE], AUTOMATIC, NONE):
        changes[VAE] = services.vaes.find(changes[VAE]).name
    return changes


def is_restricted(setting: Setting, *, patterns: bool = False) -> bool:
    """Whether the API may not change it: folders, files, what code runs, and the rules for fetching pictures.

    patterns: names of files count too (--hide-ui-dir-config).
    """
    places = ("folder", "file", "name") if patterns else ("folder", "file")
    return setting.restrict_api or setting.reaches in places or setting.key in NOT_FROM_OUTSIDE
