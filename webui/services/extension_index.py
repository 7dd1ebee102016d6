"""The list of extensions that others publish: fetched when the user asks, kept for when there is no network."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import Refused
from webui.core.files import write_atomic
from webui.net.egress import Egress, Unreachable

VARIABLE = "WEBUI_EXTENSIONS_INDEX"
USUAL = "https://raw.githubusercontent.com/AUTOMATIC1111/stable-diffusion-webui-extensions/master/index.json"
LARGEST = 16 << 20
MOST = 5000
TEXTS = ("name", "url", "description", "added", "created", "commit_time")


@dataclass(frozen=True)
class Offered:
    """One extension of an index. added, created, commit_time: dates as the index writes them."""

    name: str
    url: str
    description: str = ""
    added: str = ""
    created: str = ""
    commit_time: str = ""
    stars: int = 0
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Index:
    """url: where it came from. fetched: when, seconds; 0 for none yet. tags: name -> what it means."""

    url: str
    fetched: float
    tags: Mapping[str, str]
    extensions: tuple[Offered, ...]
    note: str = ""


def usual_address(environ: Mapping[str, str] = os.environ) -> str:
    return environ.get(VARIABLE) or USUAL


class ExtensionIndexes:
    """folder: where fetched ones are kept."""

    def __init__(self, folder: Path, egress: Egress):
        self._folder = folder
        self._egress = egress

    def kept(self, url: str) -> Index:
        """The index as it was last fetched, an empty one if it never was."""
        try:
            kept = json.loads(self._file(url).read_text(encoding="utf-8"))
            return _index(url, float(kept["fetched"]), kept)
        except (OSError, ValueError, KeyError, TypeError, Refused):
            return Index(url, 0.0, {}, ())

    def fetch(self, url: str) -> Index:
        """The index as it is now; the kept one, with a note, when its server can't be reached.

        Raises: Refused for what is no index or no https address, Unreachable without one that was kept.
        """
        try:
            with self._egress.open(url) as answer:
                if answer.status != 200:
                    raise Unreachable(f"{url[:200]} is answered with status {answer.status}.")
                data = answer.read_all(LARGEST)
        except Unreachable as error:
            kept = self.kept(url)
            if not kept.fetched:
                raise
            return Index(url, kept.fetched, kept.tags, kept.extensions, f"{error} This is the list kept from before.")
        index = _index(url, time.time(), _parsed(url, data))
        write_atomic(self._file(url), json.dumps(asdict(index)).encode())
        return index

    def _file(self, url: str) -> Path:
        return self._folder / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.json"


def _parsed(url: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{url[:200]} is no index of extensions: it isn't JSON.") from error


def _index(url: str, fetched: float, content: Any) -> Index:
    """The index without whatever in it isn't as it should be. Raises: Refused for what is no index at all."""
    listed = content.get("extensions") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise Refused(f"{url[:200]} is no index of extensions.")
    tags = content.get("tags")
    tags = tags if isinstance(tags, dict) else {}
    return Index(
        url,
        fetched,
        {str(name)[:40]: str(what)[:300] for name, what in list(tags.items())[:100]},
        tuple(offered for item in listed[:MOST] if (offered := _offered(item)) is not None),
    )


def _offered(item: Any) -> Offered | None:
    if not isinstance(item, dict):
        return None
    texts = {key: str(item.get(key) or "")[:2000] for key in TEXTS}
    if not texts["name"] or not texts["url"].startswith("https://"):
        return None
    stars, tags = item.get("stars"), item.get("tags")
    return Offered(
        **texts,
        stars=stars if isinstance(stars, int) else 0,
        tags=tuple(str(tag)[:40] for tag in tags[:30]) if isinstance(tags, list) else (),
    )
