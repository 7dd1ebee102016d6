"""What the Settings tab shows: sections in their order, and of every setting how it is edited and what it may be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from webui.core.effects import WITHOUT_EFFECT
from webui.core.settings import Section, Setting
from webui.services.choices import choices_of
from webui.services.options import CHECKPOINT, why_locked
from webui.services.services import Services

CATEGORIES: Final = {
    "saving": "Saving images",
    "sd": "Stable Diffusion",
    "ui": "User Interface",
    "system": "System",
    "postprocessing": "Postprocessing",
    "training": "Training",
}
"""Category of a section -> the heading it stands under; in the order of the tab."""

UNCATEGORIZED: Final = "Uncategorized"


def settings_form(services: Services, tabs: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that the tab needs, as JSON; sections that A1111 hides, too, are left out.

    tabs: the titles of the page's tabs.
    """
    settings = services.settings.snapshot()
    sections: dict[Section, list[dict[str, Any]]] = {}
    for setting in settings.table.values():
        if setting.section.id is not None:
            sections.setdefault(setting.section, []).append(_described(services, setting, tabs))
    headings = [*CATEGORIES.values(), UNCATEGORIZED]
    found = [
        {
            "id": section.id,
            "title": section.title,
            "category": CATEGORIES.get(section.category or "", UNCATEGORIZED),
            "settings": items,
        }
        for section, items in sections.items()
    ]
    return {
        "sections": sorted(found, key=lambda section: headings.index(section["category"])),
        "values": values_of(services),
    }


def values_of(services: Services, keys: Collection[str] | None = None) -> dict[str, Any]:
    """The settings' values as JSON has them. keys: which ones, None for all."""
    settings = services.settings.snapshot()
    return {key: settings[key] for key in settings if keys is None or key in keys}


def _described(services: Services, setting: Setting, tabs: Sequence[str]) -> dict[str, Any]:
    choices = tabs if setting.choices == "tabs" else choices_of(services, setting)
    reason = WITHOUT_EFFECT.get(setting.key)
    facts = {
        "ge": setting.ge,
        "le": setting.le,
        "step": setting.step,
        "choices": list(_with_named(services, setting, choices)) or None,
        "names": (isinstance(setting.choices, str) and setting.choices != "tabs") or None,  # not to be translated
        "help": setting.help or None,
        "after": setting.after or None,
        "idle": f"It has no effect: {reason}." if reason else None,
        "locked": why_locked(services, setting, on_page=True) or None,
        "whole": (isinstance(setting.default, int) and setting.kind in ("number", "slider")) or None,
    }
    given = {name: fact for name, fact in facts.items() if fact is not None}
    return {"key": setting.key, "label": setting.label, "kind": setting.kind, "default": setting.default, **given}


def _with_named(services: Services, setting: Setting, choices: Sequence[str]) -> Iterator[str]:
    """The choices, and before them what is chosen and isn't among them: a file that isn't there now, for one."""
    value = services.settings.snapshot()[setting.key]
    if choices and isinstance(value, str) and value not in choices and setting.key != CHECKPOINT:
        yield value
    yield from choices
