"""Names of files made from texts that anyone may have written: harmless on every system, short enough for the disk."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

LONGEST_NAME = 255
"""Bytes that a name may have on the disks in use; some take fewer (`longest_name_in`)."""

_SEPARATING = frozenset('#<>:"/\\|?*')
_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))  # control, bidi and other marks, half characters, line ends
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³]|conin\$|conout\$|clock\$) *(\..*)?$")


def safe_name(text: str, longest: int = LONGEST_NAME) -> str:
    """`text` as one component of a path on any system, of at most `longest` bytes; "" when nothing is left of it.

    Separators, drive letters' colons, control characters, line ends and invisible marks (U+202E, which turns the
    direction of writing) become "_"; spaces and dots at the end go; Windows' device names get a "_" in front.
    """
    text = "".join("_" if _is_forbidden(letter) else letter for letter in text[: 4 * longest])
    text = cut_to_bytes(text.strip(" "), longest).rstrip(" .")
    return cut_to_bytes(f"_{text}", longest) if _RESERVED.match(text) else text


def cut_to_bytes(text: str, longest: int) -> str:
    """As much of the start of `text` as fits into `longest` bytes of UTF-8, whole characters only."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= longest else data[: max(longest, 0)].decode("utf-8", "ignore")


def longest_name_in(folder: Path) -> int:
    """Bytes that a name in this folder, which exists, may have: 255 on most disks, 143 on encrypted ones."""
    if not hasattr(os, "pathconf"):
        return LONGEST_NAME
    try:
        return min(LONGEST_NAME, os.pathconf(folder, "PC_NAME_MAX"))
    except (OSError, ValueError):  # a disk that doesn't tell
        return LONGEST_NAME


def _is_forbidden(letter: str) -> bool:
    return letter in _SEPARATING or unicodedata.category(letter) in _INVISIBLE
