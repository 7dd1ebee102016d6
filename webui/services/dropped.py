"""A file that somebody dropped on the page: the text it means."""

from __future__ import annotations

from webui.core.errors import InvalidRequest
from webui.services.file_texts import read_file_texts

LONGEST_TEXT = 10_000
"""Characters of a text file that may be an infotext, as A1111 has it."""


def read_dropped(data: bytes) -> tuple[str, dict[str, str]]:
    """The infotext of a picture or a video with its further texts, or the text of a short text file.

    Raises: InvalidRequest for one without an infotext, and for anything else.
    """
    try:
        infotext, texts = read_file_texts(data)
    except InvalidRequest as error:
        text = _text(data)
        if text is None:
            raise error
        return text, {}
    if not infotext:
        raise InvalidRequest("This picture carries no generation parameters.")
    return infotext, texts


def _text(data: bytes) -> str | None:
    """The bytes as text; None for what is no text, or too much of it."""
    if len(data) > 4 * LONGEST_TEXT or b"\0" in data:
        return None
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        return None
    return text if 0 < len(text) < LONGEST_TEXT else None
