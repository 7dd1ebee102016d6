"""Videos and sounds that users send, kept where a run can go on with them."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from webui.core.base64_files import decode_file
from webui.core.errors import InvalidRequest
from webui.core.files import atomic_file

LARGEST_BODY = 512 * 2**20
"""Bytes of a video in a request."""
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,5}")


def keep_file(path: Path, root: Path) -> Path:
    """A copy in `root`, named by the content, so that the same file is there once. Raises: OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    kept = root / f"{digest.hexdigest()[:24]}{_ending(path.name)}"
    if not kept.is_file():
        with path.open("rb") as file, atomic_file(kept) as copy:
            shutil.copyfileobj(file, copy)
    return kept


def keep_given(text: str, root: Path, data_folder: Path, name: str) -> Path:
    """What a request gives as video: base64, a data: URL, or the path of a file or folder in the data folder.

    name: the field, for the sentence. Raises: InvalidRequest, OSError.
    """
    if len(text) < 4096 and not text.startswith("data:"):
        path = (data_folder / text).resolve()
        if path.exists() and path.is_relative_to(data_folder.resolve()):
            return path
        if "/" in text[:2] or "\\" in text or "." in text:
            raise InvalidRequest(f'{name} "{text[:200]}" isn\'t a file in the data folder; send its content as base64.')
    data = decode_file(text, name, LARGEST_BODY, kind="video")
    kept = root / hashlib.sha256(data).hexdigest()[:24]
    if not kept.is_file():
        with atomic_file(kept) as file:
            file.write(data)
    return kept


def _ending(name: str) -> str:
    ending = Path(name).suffix
    return ending.lower() if _ENDING.fullmatch(ending) else ""
