"""The captions of a folder of pictures, to be read, written and made by a captioner."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from webui.core.choices import Captioner
from webui.core.describing import DescribePlan
from webui.core.errors import InvalidRequest, NotFound, not_saved
from webui.core.extras import PictureSource
from webui.core.files import write_atomic
from webui.core.paths import child
from webui.core.pictures import decoded_picture, flattened
from webui.datasets.folders import caption_file, pictures_in, read_caption
from webui.services.folders import folder_of
from webui.services.kinds import DESCRIBE
from webui.services.services import Services

ENDINGS = (".txt", ".caption")
"""The first is what new captions get."""
MOST_SHOWN = 2000
LONGEST = 20_000
THUMBNAIL = 320
"""Pixels of a side, at most."""


def captions_in(services: Services, folder: str) -> dict[str, Any]:
    """The pictures of a folder and of the folders in it, each with its caption; and who can describe pictures.

    Raises: InvalidRequest for a folder without pictures, Refused for one that this visitor may not name.
    """
    place = folder_of(services, folder)
    pictures = [_row(place, picture) for picture in _pictures(place)[:MOST_SHOWN]]
    captioners = [{"name": item.name, "missing": item.missing} for item in services.choices.all(Captioner)]
    return {"pictures": pictures, "captioners": captioners, "most": MOST_SHOWN}


def save_caption(services: Services, folder: str, name: str, text: str) -> None:
    """Write the caption of a picture to the file that has it now, else to a text file of the picture's name.

    name: of the picture, below the folder. Raises: InvalidRequest, NotFound, Refused, NotSaved.
    """
    picture = _picture(services, folder, name)
    if len(text) > LONGEST:
        raise InvalidRequest(f"The caption has {len(text)} characters; at most {LONGEST} are written.")
    file = caption_file(picture, ENDINGS) or picture.with_suffix(ENDINGS[0])
    try:
        write_atomic(file, text.strip().encode())
    except OSError as error:
        raise not_saved(f"The caption can't be written to {file}", error) from error


def thumbnail(services: Services, folder: str, name: str) -> bytes:
    """A small JPEG of a picture. Raises: InvalidRequest for one that can't be read, NotFound, Refused."""
    picture = _picture(services, folder, name)
    try:
        image = decoded_picture(picture.read_bytes(), picture.name)
    except OSError as error:
        raise NotFound(f"{name} can't be read: {error.strerror}.") from error
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    flattened(image, "#ffffff").save(file, "JPEG", quality=85)
    return file.getvalue()


def describe_missing(
    services: Services,
    folder: str,
    captioner: str,
    job_id: str | None = None,
    *,
    batch_size: int = 1,
    workers: int = 1,
) -> str:
    """Have the pictures that have no caption described; returns the job's id. Nothing that is there is changed.

    batch_size, workers: of `DescribePlan`.
    Raises: InvalidRequest when all have one, or without the captioner's weights; NotFound, Refused.
    """
    place = folder_of(services, folder)
    without = [picture for picture in _pictures(place) if caption_file(picture, ENDINGS) is None]
    if not without:
        raise InvalidRequest(f"Every picture in {place} has a caption already.")
    name = services.choices.find_captioner(captioner).name
    sources = tuple(PictureSource(str(picture.relative_to(place)), path=picture) for picture in without)
    return services.jobs.submit(
        DESCRIBE, DescribePlan(sources, name, services.settings.snapshot(), place), job_id=job_id
    )


def _row(place: Path, picture: Path) -> dict[str, Any]:
    row = {"name": picture.relative_to(place).as_posix(), "caption": "", "problem": ""}
    file = caption_file(picture, ENDINGS)
    if file is not None:
        try:
            row["caption"] = read_caption(file)
        except InvalidRequest as error:
            told = str(error)
            row["problem"] = f"{told[:1].upper()}{told[1:]}."
    return row


def _pictures(place: Path) -> Sequence[Path]:
    """Of the folder, then of the folders in it. Raises: InvalidRequest when there is none."""
    if not place.is_dir():
        raise InvalidRequest(f'There is no folder "{place}" on the machine that runs Easel.')
    found = pictures_in(place)
    for below in sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.is_symlink()):
        found += pictures_in(below)
    if not found:
        raise InvalidRequest(f"The folder {place} holds no pictures.")
    return found


def _picture(services: Services, folder: str, name: str) -> Path:
    place = folder_of(services, folder)
    if not place.is_dir():
        raise NotFound(f'There is no folder "{place}" on the machine that runs Easel.')
    picture = child(place, name)
    if picture not in pictures_in(picture.parent):
        raise NotFound(f'There is no picture "{name[:200]}" in {place}.')
    return picture
