"""Translations of the page: JSON files {text: translation} that ship, of extensions and of the user."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from webui.services.services import Services

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "localizations"
"""The folder of those that come with the program."""

OF_USERS = "localizations"
"""The folder of translations in the data directory, for the user's own, and in that of an extension."""

NO_LOCALE = "None"
RIGHT_TO_LEFT = "rtl"
"""The one key of a file whose value is no text: true for languages that are written from right to left."""


def locale_files(services: Services) -> Mapping[str, list[Path]]:
    """The files of each language, those that ship first, the user's own last; of two translations the later wins."""
    found: dict[str, list[Path]] = {}
    for path in _files(services):
        found.setdefault(path.stem, []).append(path)
    return found


def translations(services: Services, language: str | None = None) -> dict[str, str | bool]:
    """{text of the page: translation}, with "rtl": true where that is so; empty for a language that has no file.

    language: a name in `locale_files`; None is the one that is set. A file that can't be read is passed over.
    """
    wanted = services.settings.snapshot()["localization"] if language is None else language
    together: dict[str, str | bool] = {}
    for path in locale_files(services).get(wanted, ()) if wanted != NO_LOCALE else ():
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            log.warning("The translation %s can't be read: %s", path, error)
            continue
        if isinstance(content, dict):
            together |= {key: value for key, value in content.items() if isinstance(value, str) and value}
            if content.get(RIGHT_TO_LEFT) is True:
                together[RIGHT_TO_LEFT] = True
    return together


def _files(services: Services) -> Iterator[Path]:
    yield from sorted(SHIPPED.glob("*.json"))
    for extension in services.host.extensions:
        if extension.state != "disabled":  # a package of translations alone has no program that would have to load
            yield from sorted((extension.folder / OF_USERS).glob("*.json"))
    for assets in services.host.assets.values():
        yield from map(Path, assets.locales)
    yield from sorted((services.paths.data / OF_USERS).glob("*.json"))
