"""What a user asks to have described in words, and the words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from webui.core.extras import PictureSource
from webui.core.settings import Settings


@dataclass(frozen=True)
class DescribePlan:
    """captioner: its name. folder: where the words are written, a text file for each picture; None for nowhere.

    batch_size: pictures that are described at once, where the captioner can. workers: pictures that are read at once.
    """

    sources: tuple[PictureSource, ...]
    captioner: str
    settings: Settings
    folder: Path | None = None
    batch_size: int = 1
    workers: int = 1


@dataclass(frozen=True)
class Description:
    """texts: of each picture that could be described. message, comments: sentences for the user."""

    texts: tuple[str, ...]
    message: str = ""
    comments: tuple[str, ...] = ()
