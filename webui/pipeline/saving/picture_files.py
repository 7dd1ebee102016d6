"""Pictures as files in a folder: encoded as the settings say, under the next free number or a name."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from webui.core.errors import WebuiError
from webui.core.files import write_atomic
from webui.core.pictures import PARAMETERS, PictureFormat, encode_image, format_for
from webui.core.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoded:
    """A file's content and format. texts: what it carries, the infotext under "parameters"."""

    data: bytes
    format: PictureFormat
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
    folder: Path, name: str, picture: Encoded, settings: Settings, *, numbered: bool, basename: str = ""
) -> Path:
    """Write a picture, see `write_file`."""
    return write_file(folder, name, picture.data, picture.format, settings, numbered=numbered, basename=basename)


def write_file(
    folder: Path, name: str, data: bytes, ending: str, settings: Settings, *, numbered: bool, basename: str = ""
) -> Path:
    """Write the file and return its path. ending: of its name, such as "png".

    numbered: under the folder's next free number, before `name`; counted apart for each `basename`. Otherwise `name`
    alone, over an older file of that name unless setting save_images_replace_action is against it.
    Raises: WebuiError naming the folder when it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if numbered:
            number = next_number(folder, basename)
            start = f"{basename}-{number:04}" if basename else f"{number:05}"
            path = free_path(folder / f"{start}{name}.{ending}")
        else:
            path = folder / f"{name}.{ending}"
            if settings["save_images_replace_action"] != "Replace":
                path = free_path(path)
        write_atomic(path, data)
    except OSError as error:
        raise WebuiError(
            f"The picture can't be saved in {folder}: {error.strerror}. Free some space or choose another "
            "output folder in Settings; the picture is still shown on the page."
        ) from error
    return path


def write_jpg_copy(path: Path, image: Image.Image, picture: Encoded, settings: Settings) -> Path | None:
    """A smaller JPG beside a large picture, as setting export_for_4chan wants; None where there is no need for one.

    Large is a side of more than target_side_length pixels, which the copy is brought down to, or a file of more
    than img_downscale_threshold megabytes. A picture that is a JPG already is left alone.
    """
    side = int(settings["target_side_length"])
    oversize = max(image.size) > side
    too_long = len(picture.data) > float(settings["img_downscale_threshold"]) * 2**20
    if not settings["export_for_4chan"] or picture.format == "jpg" or not (oversize or too_long):
        return None
    if oversize:
        scale = side / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    copy = path.with_suffix(".jpg")
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
            digits = re.match(r"\d+", entry.name[len(start) :])
            if digits:
                highest = max(highest, int(digits.group(0)))
    return highest + 1


def free_path(path: Path) -> Path:
    """The path, or with -1, -2, ... behind the stem while that name is taken."""
    candidate, count = path, 0
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.stem}-{count}{path.suffix}")
    return candidate
