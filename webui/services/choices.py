"""The lists of choices that only the running program knows."""

from __future__ import annotations

from webui.core.choices import ATTENTIONS
from webui.core.settings import Setting
from webui.services.services import Services


def choices_of(services: Services, setting: Setting) -> tuple[str, ...]:
    """What the setting may be; empty when anything goes, or when its list isn't known here."""
    if isinstance(setting.choices, tuple):
        return setting.choices
    if setting.choices == "vaes":
        return services.vaes.names()
    if setting.choices == "attention":
        return tuple(ATTENTIONS)
    if setting.choices == "checkpoints":
        return services.checkpoints.titles()
    return ()
