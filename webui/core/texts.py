"""Texts from outside, which may hold anything: made fit for a page, an answer in JSON, a database."""

from __future__ import annotations

import unicodedata
from typing import Any

_UNSPEAKABLE = frozenset(("Cc", "Cs", "Zl", "Zp"))  # control characters, half characters, line ends
_TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_text(text: str) -> str:
    """The text with U+FFFD for each half of a character (a lone surrogate), which nothing can write or send."""
    return (
        text if text.isascii() else "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    )


def clean_data(value: Any) -> Any:
    """`clean_text` for every text of something that JSON can hold, keys included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_data(key): clean_data(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [clean_data(inner) for inner in value]
    return value


def shown_name(name: str) -> str:
    """A file's name or path as people see and type it.

    Bytes that are no UTF-8, control characters, and marks that turn the direction of writing are written as "%C3".
    """
    if name.isascii() and name.isprintable():
        return name
    return "".join(_escaped(letter) if _is_unspeakable(letter) else letter for letter in name)


def _is_unspeakable(letter: str) -> bool:
    return letter in _TURNING or unicodedata.category(letter) in _UNSPEAKABLE


def _escaped(letter: str) -> str:
    data = letter.encode("utf-8", "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data)
