"""Files that come as text in JSON: base64, or a data: URL."""

from __future__ import annotations

import base64
import binascii
import re

from webui.core.errors import InvalidRequest

DATA_URL = re.compile(r"data:[\w/.+-]*;base64,", re.IGNORECASE)


def decode_file(text: str, name: str, limit: int, *, kind: str) -> bytes:
    """The content of a file. name: the field it came in; limit: bytes; kind: "picture", "video", for the sentence.

    Raises: InvalidRequest for too much, for what is no base64, and for nothing.
    """
    header = DATA_URL.match(text[:100])
    encoded = text[header.end() :] if header else text
    if len(encoded) * 3 // 4 > limit:
        raise InvalidRequest(f"{name} is larger than {limit // 2**20} MiB.")
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{name} is not base64: {error}.") from error
    if not data:
        raise InvalidRequest(f"{name} is empty; send a {kind} as base64.")
    return data
