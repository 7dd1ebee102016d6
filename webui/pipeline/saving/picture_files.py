"""Pictures as files in a folder: encoded as the settings say, under the next free number or a name."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from webui.core.errors import NoSpace, NotSaved, WebuiError, not_saved
from webui.core.file_names import cut_to_bytes, longest_name_in, safe_name
from webui.core.files import write_atomic
from webui.core.pictures import PARAMETERS, encode_image, format_for
from webui.core.settings import Settings

log = logging.getLogger(__name__)

UNNAMED = "picture"
"""The name of a picture whose pattern leaves nothing."""


@dataclass(frozen=True)
class Encoded:
    """A file's content and format, the ending of its name. texts: what it carries, the infotext under "parameters"."""

    data: bytes
    format: str
    texts: Mapping[str, str]


def encoded(
    image: Image.Image, texts: Mapping[str, str], settings: Settings, *, grid: bool = False, format: str | None = None
) -> Encoded:
    """The picture in the settings' format, or in `format`; with its texts unless setting enable_pnginfo is off.

    Raises: InvalidRequest for a format that can't be written.
    """
    kind = format_for(format or str(settings["grid_format" if grid else "samples_format"]), image.size)
    kept = {key: text for key, text in texts.items() if text} if settings["enable_pnginfo"] else {}
    data = encode_image(
        image,
        kind,
        kept.get(PARAMETERS),
        {key: text for key, text in kept.items() if key != PARAMETERS},
        quality=settings["jpeg_quality"],
        lossless=settings["webp_lossless"],
    )
    return Encoded(data, kind, kept)


def write_picture(
    folder: Path,
    name: str,
    picture: Encoded,
    settings: Settings,
    *,
    numbered: bool,
    basename: str = "",
    suffix: str = "",
    keep: Collection[Path] = (),
) -> Path:
    """Write the file and return its path, which lies in `folder` whatever the name is.

    The name is cleaned and cut to what the disk takes; the number before and the suffix after it are kept whole.
    numbered: under the folder's next free number, before `name`; counted apart for each `basename`. Otherwise `name`
    alone, over an older picture of that name unless setting save_images_replace_action is against it.
    keep: files that are never written over. Neither are texts (setting save_txt) of which the picture is not there.
    Raises: NotSaved naming the folder when it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        start = _number(folder, basename) if numbered else ""
        replace = not numbered and settings["save_images_replace_action"] == "Replace"
        path = _free(folder, start + name, suffix, f".{picture.format}", settings, replace, keep)
        write_atomic(path, picture.data)
    except OSError as error:
        raise not_saved(f"The picture can't be saved in {folder}", error) from error
    return path


class Keeper:
    """Writes the pictures of one job: none over another, and none lost without a word.

    rescue: folders to take when a picture's own can't be written. tell: takes sentences for the user.
    keep: files that are never written over; those written here are added.
    unsaved: why a picture is on no disk at all.
    """

    def __init__(
        self, settings: Settings, rescue: Sequence[Path], tell: Callable[[str], None], keep: Iterable[Path] = ()
    ) -> None:
        self.settings = settings
        self.rescue = tuple(rescue)
        self.tell = tell
        self.keep = set(keep)
        self.unsaved: NotSaved | None = None

    @property
    def out_of_space(self) -> bool:
        """Whether every disk is full, so that further pictures would be lost."""
        return isinstance(self.unsaved, NoSpace)

    def write(
        self,
        folder: Callable[[], Path],
        name: str,
        picture: Encoded,
        *,
        numbered: bool,
        basename: str = "",
        suffix: str = "",
    ) -> Path | None:
        """`write_picture` in the folder, else in the first of `rescue` that can be written; None when none can.

        folder: asked once; may raise a WebuiError itself.
        """

        def written(place: Path) -> Path:
            path = write_picture(
                place,
                name,
                picture,
                self.settings,
                numbered=numbered,
                basename=basename,
                suffix=suffix,
                keep=self.keep,
            )
            self.keep.add(path)
            return path

        try:
            return written(folder())
        except WebuiError as error:
            kind, sentence = type(error) if isinstance(error, NotSaved) else NotSaved, str(error)
        for place in self.rescue:
            try:
                path = written(place)
            except NotSaved:
                continue
            self._told(f"{sentence} It is saved as {path} instead.")
            return path
        self.unsaved = kind(
            f"{sentence} It is on no disk: save it from the page, free some space or choose another output folder in "
            "Settings."
        )
        self._told(str(self.unsaved))
        return None

    def _told(self, sentence: str) -> None:
        log.warning("%s", sentence)
        self.tell(sentence)


def _number(folder: Path, basename: str) -> str:
    number = next_number(folder, basename)
    return f"{basename}-{number:04}" if basename else f"{number:05}"


def _free(
    folder: Path, name: str, suffix: str, ending: str, settings: Settings, replace: bool, keep: Collection[Path]
) -> Path:
    """The file to write: the first of name, name-1, name-2, ... that isn't there, or that may be replaced."""
    longest = longest_name_in(folder) - max(len(ending), len(".txt"))
    for count in itertools.count():
        end = suffix + (f"-{count}" if count else "")
        stem = cut_to_bytes(safe_name(name), longest - len(end.encode())).rstrip(" .") + end
        path = folder / f"{stem or UNNAMED}{ending}"
        text = path.with_name(f"{path.stem}.txt")
        if path in keep:
            continue
        if replace and path.is_file():
            return path
        if not os.path.lexists(path) and not (settings["save_txt"] and os.path.lexists(text)):
            return path
    raise AssertionError("numbers don't end")


def write_jpg_copy(
    path: Path, image: Image.Image, picture: Encoded, settings: Settings, keep: Collection[Path] = ()
) -> Path | None:
    """A smaller JPG beside a large picture, as setting export_for_4chan wants; None where there is no need for one.

    Large is a side of more than target_side_length pixels, which the copy is brought down to, or a file of more
    than img_downscale_threshold megabytes. A picture that is a JPG already is left alone. keep: as for write_picture.
    """
    side = int(settings["target_side_length"])
    oversize = max(image.size) > side
    too_long = len(picture.data) > float(settings["img_downscale_threshold"]) * 2**20
    if not settings["export_for_4chan"] or picture.format == "jpg" or not (oversize or too_long):
        return None
    if oversize:
        scale = side / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    copy = path.with_name(f"{path.stem}.jpg")
    if copy in keep or (os.path.lexists(copy) and settings["save_images_replace_action"] != "Replace"):
        copy = free_path(copy)
    try:
        write_atomic(copy, encoded(image, picture.texts, settings, format="jpg").data)
    except OSError as error:
        log.warning("%s has no JPG copy: %s.", path, error.strerror)
        return None
    return copy


def next_number(folder: Path, basename: str) -> int:
    """One more than the highest number that a file of the folder begins with; 0 in an empty one."""
    start = f"{basename}-" if basename else ""
    highest = -1
    for entry in folder.iterdir():
        if entry.name.startswith(start):
            digits = re.match(r"\d{1,18}(?!\d)", entry.name[len(start) :])
            if digits:
                highest = max(highest, int(digits.group(0)))
    return highest + 1


def free_path(path: Path) -> Path:
    """The path, or with -1, -2, ... behind the stem while that name is taken."""
    candidate, count = path, 0
    while os.path.lexists(candidate):
        count += 1
        candidate = path.with_name(f"{path.stem}-{count}{path.suffix}")
    return candidate
