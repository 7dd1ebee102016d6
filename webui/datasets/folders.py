"""Folders of pictures with their captions, as kohya's trainers lay them out.

`<folder>/<repeats>_<class words>/` are the parts of a training set: `10_sks man` counts each of its pictures ten times
an epoch and describes those without a caption as "sks man". A folder that holds pictures itself is one part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from webui.core.errors import InvalidRequest
from webui.core.training_data import DataFolder, DataRequest
from webui.datasets.buckets import Size
from webui.datasets.captions import caption_of_name

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif")
MOST_PICTURES = 100_000
MOST_REPEATS = 10_000
_REPEATED = re.compile(r"(\d+)_(.*)", re.DOTALL)


@dataclass(frozen=True)
class Subset:
    """A folder of pictures that are treated alike. options: what is done with them; its own folder doesn't count.

    naming: where captions come from.
    """

    folder: Path
    options: DataFolder = DataFolder()
    naming: DataRequest = DataRequest()

    @property
    def varies(self) -> bool:
        """Whether the pixels of a picture may be others the next time, so that latents can't be kept."""
        return self.options.color_aug or self.options.random_crop


class Subsets(NamedTuple):
    """The parts of a training folder, and sentences about what of it is left out."""

    found: list[Subset]
    left_out: list[str]


@dataclass(frozen=True)
class Picture:
    """A picture of a subset. size: as it is shown. caption: before the options are applied to it.

    digest: of the file's content.
    """

    path: Path
    size: Size
    caption: str
    subset: Subset
    digest: str = ""


def subsets_in(folder: Path, every: DataFolder, naming: DataRequest) -> Subsets:
    """The parts of a training folder, by name.

    every: the options of all; the repeats, and the caption of pictures without one, are those of a folder's name.
    Raises: InvalidRequest when there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise InvalidRequest(f'There is no folder "{folder}" on the machine that runs Easel.')
    found: list[Subset] = []
    left_out: list[str] = []

    def take(place: Path, repeats: int, words: str) -> None:
        options = every.replace(num_repeats=repeats, class_tokens=words or every.class_tokens)
        found.append(Subset(place, options, naming))

    for below in _folders(folder):
        match = _REPEATED.fullmatch(below.name)
        if match is None:
            if pictures_in(below):
                left_out.append(
                    f'The folder "{below.name}" is left out: only folders called like "10_name" are trained on, where '
                    "the number says how often each picture is used in an epoch."
                )
        elif not 1 <= int(match[1]) <= MOST_REPEATS:
            left_out.append(
                f'The folder "{below.name}" is left out: its name says to use each picture {int(match[1])} times.'
            )
        elif pictures_in(below):
            take(below, int(match[1]), match[2].strip())
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
        if match and 1 <= int(match[1]) <= MOST_REPEATS:
            take(folder, int(match[1]), match[2].strip())
        else:
            take(folder, every.num_repeats, "")
    if not found:
        reasons = " ".join(left_out)
        kinds = ", ".join(suffix.lstrip(".") for suffix in SUFFIXES)
        raise InvalidRequest(f"The folder {folder} holds no pictures to train on ({kinds}). {reasons}".strip())
    return Subsets(found, left_out)


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder, by name. Raises: InvalidRequest for a folder that can't be read."""
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    except OSError as error:
        raise InvalidRequest(f"The folder {folder} can't be read: {error.strerror}.") from error


def caption_suffixes(told: str) -> tuple[str, ...]:
    """The endings that a text such as ".caption, txt" names."""
    words = (word.strip() for word in told.split(","))
    return tuple(word if word.startswith(".") else f".{word}" for word in words if word.strip("."))


def caption_file(picture: Path, suffixes: Sequence[str]) -> Path | None:
    """The first file with one of these endings that stands beside a picture, None where there is none."""
    return next((file for end in suffixes if (file := picture.with_suffix(end)).is_file()), None)


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
    """The caption of a picture of the subset, before its options are applied. Raises: as `read_caption`."""
    naming, words = subset.naming, subset.options.class_tokens
    file = caption_file(picture, caption_suffixes(subset.options.caption_extension))
    if naming.caption_from == "file":
        return read_caption(file) if file is not None else words
    if naming.caption_from == "words":
        told = read_caption(file) if file is not None else words_of_name(picture.stem, naming)
        return " ".join(told.split())
    name = caption_of_name(picture.stem) or words
    return " ".join(filter(None, (name, read_caption(file)))) if naming.name_and_file and file is not None else name


def words_of_name(stem: str, naming: DataRequest) -> str:
    """What A1111 makes of a file's name: without digits and dashes in front; of the rest what the expression finds.

    Raises: InvalidRequest for what is no regular expression.
    """
    text = re.sub(r"^[-\d]+\s*", "", stem)
    if not naming.word_regex:
        return text
    try:
        found = re.findall(naming.word_regex, text)
    except re.error as error:
        raise InvalidRequest(f'"{naming.word_regex}" is no regular expression: {error}') from error
    return naming.word_join.join(word if isinstance(word, str) else "".join(word) for word in found)


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
