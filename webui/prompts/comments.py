"""Comments in prompts: from "#" to the end of the line."""

from __future__ import annotations

import re

_WHOLE_LINE = re.compile(r"(?:^|\n)#[^\n]*(?:\n|$)")
_REST_OF_LINE = re.compile(r"#[^\n]*")


def strip_comments(prompt: str) -> str:
    """The prompt without comments; one that fills its line takes the line away with it."""
    return _REST_OF_LINE.sub("", _WHOLE_LINE.sub("\n", prompt))
