"""Fetching weights from public servers, when somebody asks for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from webui.core.errors import BadModelFile
from webui.core.hosted import HostedWeights
from webui.net.download import RemoteFile, download
from webui.net.egress import Egress
from webui.services.downloads import check_start, check_whole

log = logging.getLogger(__name__)
CHECKED = (".safetensors", ".pt", ".pth", ".bin")


def fetch_hosted(
    wanted: HostedWeights, models: Path, egress: Egress | None = None, told: Callable[[int], None] = lambda done: None
) -> tuple[Path, ...]:
    """Fetch the files that aren't there yet, and note their licence beside them; a try that broke off goes on.

    told: called with the bytes that have come. Returns: all of them. Raises: Unreachable, Refused, NoSpace,
    BadModelFile, OSError; what has arrived before stays.
    """
    before = 0
    for url, file in wanted.files.items():
        target = models / file
        if target.exists():
            before += target.stat().st_size
            continue
        log.info("Fetching %s: %s", wanted.name, url)
        remote = RemoteFile(url, target.name)

        def count(done: int, size: int, before: int = before) -> None:
            told(before + done)

        def start(content: bytes, name: str = target.name) -> None:
            _check_start(name, content)

        def whole(part: Path, name: str = target.name) -> None:
            if name.endswith(CHECKED):
                check_whole(name, part)

        download(
            egress or Egress(), remote, target.parent, told=count, check_start=start, check=whole, pauses=(1.0, 2.0)
        )
        before += target.stat().st_size
    note = wanted.paths(models)[0].with_name("easel-licence.txt")
    if not note.exists():
        source = urlsplit(next(iter(wanted.files))).geturl()
        note.write_text(f"{wanted.name}: {wanted.licence}. Fetched from {source} and beside it.\n", encoding="utf-8")
    return wanted.paths(models)


def _check_start(name: str, start: bytes) -> None:
    """Raises: BadModelFile for a web page in place of the file."""
    if name.endswith(CHECKED):
        check_start(name, start)
    elif start.lstrip()[:1] == b"<":
        raise BadModelFile(f"{name} is a web page and not the file that was expected; try again later.")
