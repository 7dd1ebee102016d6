"""The files that a Gradio event's JSON names, wherever they stand in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from gradio.blocks import BlockFunction

from webui.core.errors import Refused
from webui.ui.visitors.files import VisitorFiles
from webui.ui.visitors.tables import files_in

FILE_ADDRESS = "/gradio_api/file="


def check_payload(fn: BlockFunction, body: dict[str, Any], owner: str, files: VisitorFiles, host: str) -> None:
    """Judge every file in a request for an event, and leave of each only the path that was judged.

    host: by which the visitor addressed the server. Raises: Refused.
    """
    given = list(_file_dicts(body.get("data")))
    allowed = sum(files_in(type(component)) for component in fn.inputs)
    if len(given) > allowed:
        raise Refused(f"This event takes {allowed} files and was given {len(given)}.")
    for item in (*given, *_file_dicts(body.get("event_data"))):
        path = item.get("path")
        if not isinstance(path, str):
            raise Refused("A file is given by the path that its upload was answered with.")
        _check_address(item.get("url"), host)
        item["path"] = str(files.check_given(owner, path))
        item["url"] = None
        item["is_stream"] = False


def hand_out_payload(data: object, owner: str, files: VisitorFiles) -> None:
    """Judge every file that an event returns, and let its visitor use it. Raises: Refused."""
    for item in _file_dicts(data):
        path = item.get("path")
        if isinstance(path, str):
            files.hand_out(owner, path)


def _file_dicts(value: object) -> Iterator[dict[str, Any]]:
    """Every dict that Gradio might read as a file."""
    level = [value]
    while level:
        box = level.pop()
        if isinstance(box, dict):
            if "path" in box or "url" in box or _is_marked(box.get("meta")):
                yield box
            level.extend(box.values())
        elif isinstance(box, list | tuple):
            level.extend(box)


def _is_marked(meta: object) -> bool:
    return isinstance(meta, dict) and meta.get("_type") == "gradio.FileData"


def _check_address(url: object, host: str) -> None:
    """A file's address, where a browser sends it along, is this server's; it isn't used."""
    if url in (None, ""):
        return
    parts = urlsplit(url) if isinstance(url, str) else None
    own = parts is not None and (parts.scheme == "blob" or (parts.netloc in ("", host) and FILE_ADDRESS in parts.path))
    if not own or (parts is not None and parts.scheme not in ("", "http", "https", "blob")):
        raise Refused("A file is given by the path that its upload was answered with, not by an address elsewhere.")
