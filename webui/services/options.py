"""Changing settings, as the Settings tab and /sdapi/v1/options both do: who may change what, and to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from webui.catalog.vaes import AUTOMATIC, NONE, vae_wish
from webui.core.effects import changed, ineffective
from webui.core.errors import InvalidRequest, Refused, WebuiError
from webui.core.settings import Setting, shown
from webui.services.generation import choose_checkpoint
from webui.services.services import Services

CHECKPOINT: Final = "sd_model_checkpoint"
VAE: Final = "sd_vae"
HASH: Final = "sd_checkpoint_hash"  # follows from the checkpoint

NOT_FROM_OUTSIDE: Final = frozenset({"clean_temp_dir_at_start", "disabled_extensions", "disable_all_extensions"})
"""Settings that delete files or decide which code runs; those that name places say so themselves (Setting.reaches)."""


@dataclass(frozen=True)
class Changes:
    """What came of many changes, each judged for itself.

    saved: the values as they are kept. refused: key -> a sentence. notes: sentences about saved ones. loading: the id
    of the job that loads another checkpoint, if there is one.
    """

    saved: dict[str, Any]
    refused: dict[str, str]
    notes: list[str]
    loading: str | None = None


def change_settings(services: Services, wished: Mapping[str, Any]) -> None:
    """Save the changes of a client, all or none, and wait for a changed checkpoint to load.

    Raises: InvalidRequest, Refused, NotFound, then nothing has changed; the load's own error, then the
    checkpoint is the one that was loaded before.
    """
    loading = _save(services, allowed_changes(services, wished))
    if loading:
        services.jobs.result(loading, None)


def change_each(services: Services, wished: Mapping[str, Any]) -> Changes:
    """Save those changes of the Settings tab that may be; another checkpoint loads meanwhile.

    Raises: WebuiError when the file can't be written.
    """
    before = services.settings.snapshot()
    good: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for key, value in wished.items():
        try:
            good |= allowed_changes(services, {key: value}, on_page=True)
        except WebuiError as error:
            refused[key] = str(error)
    notes = list(ineffective(changed(good, before)))
    loading = _save(services, good)
    now = services.settings.snapshot()
    return Changes({key: now[key] for key in good}, refused, notes, loading)


def _save(services: Services, changes: Mapping[str, Any]) -> str | None:
    """Save checked changes; returns the id of the job that loads another checkpoint, None for none."""
    before = services.settings.snapshot()[CHECKPOINT]
    title = changes.get(CHECKPOINT, before)
    services.settings.update({key: value for key, value in changes.items() if key != CHECKPOINT})
    if title is None:
        services.settings.update({CHECKPOINT: None})
    elif title != before:
        return choose_checkpoint(services, title)
    return None


def allowed_changes(services: Services, wished: Mapping[str, Any], *, on_page: bool = False) -> dict[str, Any]:
    """The wished settings, checked, a checkpoint under its title.

    on_page: wished by who sits at the page. Locked settings may be named as long as their value stays: clients send
    back all that they got.
    Raises: InvalidRequest (unknown key, bad value), Refused (locked), NotFound (checkpoint).
    """
    current = services.settings.snapshot()
    wanted = current.replace(**wished)
    changes = {key: wanted[key] for key in wished if key != HASH}
    for key, value in changes.items():
        locked = why_locked(services, current.setting(key), on_page=on_page)
        if locked and value != current[key]:
            raise Refused(locked)
    if changes.get(CHECKPOINT):
        changes[CHECKPOINT] = services.checkpoints.find(changes[CHECKPOINT]).title
    elif changes.get(CHECKPOINT) == "":
        raise InvalidRequest(
            f'Setting "{CHECKPOINT}" can\'t be {shown("")}; it must be the name of a checkpoint, or null.'
        )
    if VAE in changes:
        wish = vae_wish(changes[VAE])
        known = wish in (current[VAE], AUTOMATIC, NONE)
        changes[VAE] = wish if known else services.vaes.find(wish).name
    return changes


def why_locked(services: Services, setting: Setting, *, on_page: bool = False) -> str:
    """Why a setting may not be changed from where it is wished, as a sentence; "" where it may.

    The page may change what the API may not, unless strangers reach it (see docs/security.md).
    """
    flags, key, config = services.flags, setting.key, services.paths.config.name
    if on_page and key in services.settings.frozen:
        return f'Setting "{key}" is frozen by the command line (--freeze-settings).'
    if not is_restricted(setting, patterns=flags.hide_ui_dir_config):
        return ""
    if not on_page:
        return f'Setting "{key}" can only be changed on the Settings page or in {config}.'
    if flags.hide_ui_dir_config and setting.reaches in ("folder", "file", "name"):
        return f'Setting "{key}" can only be changed in {config} here (--hide-ui-dir-config).'
    if flags.share or not (flags.is_local or flags.credentials):
        return (
            f'Setting "{key}" can only be changed on a server for this machine alone, or one with --gradio-auth and no '
            "--share."
        )
    return ""


def is_restricted(setting: Setting, *, patterns: bool = False) -> bool:
    """Whether the API may not change it: folders, files, what code runs, and the rules for fetching pictures.

    patterns: names of files count too (--hide-ui-dir-config).
    """
    places = ("folder", "file", "name") if patterns else ("folder", "file")
    return setting.restrict_api or setting.reaches in places or setting.key in NOT_FROM_OUTSIDE
