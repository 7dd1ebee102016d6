"""Translations of the page: JSON files {text: translation} of extensions and of the user."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from webui.services.services import Services

log = logging.getLogger(__name__)

OF_USERS = "localizations"
"""The folder of the data directory where users put translations of their own."""

NO_LOCALE = "None"


def locale_files(services: Services) -> Mapping[str, list[Path]]:
    """The files of each language, the user's own last, which win."""
    found: dict[str, list[Path]] = {}
    registered = [Path(path) for assets in services.host.assets.values() for path in assets.locales]
    for path in (*registered, *sorted((services.paths.data / OF_USERS).glob("*.json"))):
        found.setdefault(path.stem, []).append(path)
    return found


def translations(services: Services) -> dict[str, str]:
    """{text of the page: translation} in the language that is set; a file that can't be read is passed over."""
    language = services.settings.snapshot()["localization"]
    together: dict[str, str] = {}
    for path in locale_files(services).get(language, ()) if language != NO_LOCALE else ():
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            log.warning("The translation %s can't be read: %s", path, error)
            continue
        if isinstance(content, dict):
            together |= {key: value for key, value in content.items() if isinstance(value, str) and value}
    return together
