"""Folders of pictures with their captions, as kohya's trainers lay them out.

`<folder>/<repeats>_<class words>/` are the parts of a training set: `10_sks man` counts each of its pictures ten times
an epoch and describes those without a caption as "sks man". A folder that holds pictures itself is one part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from webui.core.errors import InvalidRequest
from webui.datasets.buckets import Size
from webui.datasets.captions import CaptionRules, caption_of_name

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif")
CAPTION_SUFFIXES = (".txt", ".caption")
"""Looked for in this order where nobody says which."""
MOST_PICTURES = 100_000
_REPEATED = re.compile(r"(\d+)_(.*)", re.DOTALL)


class CaptionSource(str, Enum):
    """Where the captions come from."""

    FILES = "files"
    NAMES = "file names"
    WORDS = "words"


@dataclass(frozen=True)
class Subset:
    """A folder of pictures that are treated alike.

    repeats: how often each is drawn in an epoch. words: the caption of pictures without one. is_class: pictures of the
    class, which keep the model from forgetting it. caption_suffix: "" for any of CAPTION_SUFFIXES. flip: half of the
    drawings are mirrored. colour: hue or gamma vary a little. random_crop: the crop is moved. alpha_mask: what is
    transparent counts less.
    """

    folder: Path
    repeats: int = 1
    words: str = ""
    is_class: bool = False
    caption_source: CaptionSource = CaptionSource.FILES
    caption_suffix: str = ""
    captions: CaptionRules = field(default_factory=CaptionRules)
    flip: bool = False
    colour: bool = False
    random_crop: bool = False
    alpha_mask: bool = False

    @property
    def varies(self) -> bool:
        """Whether the pixels of a picture may be others the next time, so that latents can't be kept."""
        return self.colour or self.random_crop


@dataclass(frozen=True)
class Picture:
    """A picture of a subset. size: as it is shown. caption: before the rules are applied to it."""

    path: Path
    size: Size
    caption: str
    subset: Subset


def subsets_in(folder: Path, *, words: str = "", is_class: bool = False) -> tuple[list[Subset], list[str]]:
    """The parts of a training folder, by name, and sentences about what is left out.

    words: the caption of pictures without one, where no folder's name tells it.
    Raises: InvalidRequest when there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise InvalidRequest(f'There is no folder "{folder}" on the machine that runs Easel.')
    found: list[Subset] = []
    left_out: list[str] = []
    for below in _folders(folder):
        match = _REPEATED.fullmatch(below.name)
        if match is None:
            if pictures_in(below):
                left_out.append(
                    f'The folder "{below.name}" is left out: only folders called like "10_name" are trained on, where '
                    "the number says how often each picture is used in an epoch."
                )
        elif int(match[1]) < 1:
            left_out.append(f'The folder "{below.name}" is left out, since its pictures are to be used 0 times.')
        elif pictures_in(below):
            found.append(Subset(below, int(match[1]), match[2].strip() or words, is_class))
        else:
            left_out.append(f'The folder "{below.name}" holds no pictures.')
    own = pictures_in(folder)
    if own and found:
        left_out.append(
            f"{len(own)} pictures directly in {folder.name} are left out, since there are folders with numbers of "
            "repeats; move them into one."
        )
    elif own:
        match = _REPEATED.fullmatch(folder.name)
        repeats = max(1, int(match[1])) if match else 1
        found.append(Subset(folder, repeats, (match[2].strip() if match else "") or words, is_class))
    if not found:
        reasons = " ".join(left_out)
        kinds = ", ".join(suffix.lstrip(".") for suffix in SUFFIXES)
        raise InvalidRequest(f"The folder {folder} holds no pictures to train on ({kinds}). {reasons}".strip())
    return found, left_out


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder, by name. Raises: InvalidRequest for a folder that can't be read."""
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except OSError as error:
        raise InvalidRequest(f"The folder {folder} can't be read: {error.strerror}.") from error


def caption_file(picture: Path, suffix: str = "") -> Path | None:
    """The file with the caption of a picture, None where there is none. suffix: "" for any of CAPTION_SUFFIXES."""
    wanted = (with_dot(suffix),) if suffix else CAPTION_SUFFIXES
    return next((file for end in wanted if (file := picture.with_suffix(end)).is_file()), None)


def with_dot(suffix: str) -> str:
    return suffix if suffix.startswith(".") else f".{suffix}"


def read_caption(file: Path) -> str:
    """The whole text of a caption file; an empty one is an empty caption.

    Raises: InvalidRequest for one that isn't UTF-8 or can't be read.
    """
    try:
        return file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").strip()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"the caption {file.name} isn't written in UTF-8 (byte {error.start}); save it as UTF-8 in an editor"
        ) from error
    except OSError as error:
        raise InvalidRequest(f"the caption {file.name} can't be read: {error.strerror}") from error


def caption_of(picture: Path, subset: Subset) -> str:
    """The caption of a picture of the subset, before its rules are applied. Raises: as `read_caption`."""
    if subset.caption_source is CaptionSource.NAMES:
        return caption_of_name(picture.stem) or subset.words
    file = caption_file(picture, subset.caption_suffix) if subset.caption_source is CaptionSource.FILES else None
    return read_caption(file) if file is not None else subset.words


def repeated_to(count: int, pictures: Sequence[Picture]) -> Iterator[tuple[Picture, int]]:
    """Class pictures with how often each is drawn, so that there are `count` drawings in all; surplus ones are 0.

    Source: kohya: they are gone through in order, again and again, until there are as many as training pictures.
    """
    full, rest = divmod(count, len(pictures)) if pictures else (0, 0)
    for index, picture in enumerate(pictures):
        yield picture, full + (index < rest)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise InvalidRequest(f"The folder {folder} can't be read: {error.strerror}.") from error
