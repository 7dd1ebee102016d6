"""The texts in a file that somebody hands in: a picture or a video."""

from __future__ import annotations

from webui.core import pictures


def read_file_texts(data: bytes) -> tuple[str | None, dict[str, str]]:
    """The infotext, None if there is none, and the other texts. Raises: InvalidRequest for other kinds of files."""
    if not is_video(data):
        return pictures.read_infotext(data)
    from webui.video import read_texts

    return read_texts(data)


def is_video(data: bytes) -> bool:
    """Whether it begins as MP4 and MOV, WebM and MKV, or AVI do; GIF and WebP are pictures here."""
    if data[4:8] == b"ftyp":
        return data[8:12] not in (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix")
    return data.startswith(b"\x1a\x45\xdf\xa3") or (data[:4] == b"RIFF" and data[8:12] == b"AVI ")
