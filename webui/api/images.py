"""Pictures that clients send, as text in JSON."""

from __future__ import annotations

import re

from webui.core.base64_files import DATA_URL, decode_file
from webui.core.errors import InvalidRequest

LARGEST_PICTURE = 96 * 2**20

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def picture_bytes(text: str, name: str) -> bytes:
    """The file in a base64 text or data: URL. name: the field it came in, for the sentence.

    Raises: InvalidRequest for an address (nothing is fetched yet), for what is no base64, and for too much.
    """
    if not DATA_URL.match(text[:100]) and _ADDRESS.match(text[:100]):
        raise InvalidRequest(f"{name} is an address; pictures must come as base64 in this version.")
    return decode_file(text, name, LARGEST_PICTURE, kind="picture")
