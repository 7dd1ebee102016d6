"""Pictures that clients send, as text in JSON."""

from __future__ import annotations

import base64
import binascii
import re

from webui.core.errors import InvalidRequest

LARGEST_PICTURE = 96 * 2**20

_DATA_URL = re.compile(r"data:(?:image|video)/[\w.+-]+;base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def picture_bytes(text: str, name: str) -> bytes:
    """The file in a base64 text or data: URL. name: the field it came in, for the sentence.

    Raises: InvalidRequest for an address (nothing is fetched yet), for what is no base64, and for too much.
    """
    header = _DATA_URL.match(text[:100])
    if header is None and _ADDRESS.match(text[:100]):
        raise InvalidRequest(f"{name} is an address; pictures must come as base64 in this version.")
    encoded = text[header.end() :] if header else text
    if len(encoded) * 3 // 4 > LARGEST_PICTURE:
        raise InvalidRequest(f"{name} is larger than {LARGEST_PICTURE // 2**20} MiB.")
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{name} is not base64: {error}.") from error
    if not data:
        raise InvalidRequest(f"{name} is empty; send a picture as base64.")
    return data
