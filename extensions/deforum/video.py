"""A video taken apart into frames in a folder, and a run's frames put together into a video."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from webui.extensions.api import InvalidRequest, encode_image

from .frames import input_name, write_whole

QUALITY = 95  # of JPEG


def extract_frames(
    path: Path, folder: Path, every: int, first: int, last: int, overwrite: bool, stem: str | None = None
) -> list[Path]:
    """Every nth frame of a video as a JPEG file, numbered from 0; those that are there already are kept.

    first, last: frames of the video, both included; last -1 is the end. overwrite: make them anew.
    stem: the beginning of the files' names, None for the video's.
    Raises: InvalidRequest when the video can't be read or has no such frames.
    """
    import cv2

    from webui.extensions.api import video

    folder.mkdir(parents=True, exist_ok=True)
    stem = path.stem if stem is None else stem
    there = sorted(folder.glob(glob.escape(stem) + "[0-9]" * 9 + ".jpg"))
    if there and not overwrite:
        return there
    for old in there:
        old.unlink()
    made = []
    chosen = islice(video.open_video(path).frames(), first, None if last == -1 else last + 1, every)
    for number, frame in enumerate(chosen):
        target = folder / input_name(stem, number)
        encoded = cv2.imencode(".jpg", frame.picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        target.write_bytes(encoded.tobytes())
        made.append(target)
    if not made:
        raise InvalidRequest(f"{path} has no frames from {first} to {'its end' if last == -1 else last}.")
    return made


@dataclass(frozen=True)
class Film:
    """How videos of a run are made. text: where PNG Info finds it. sound: a file whose sound they get."""

    fps: float
    crf: int = 17
    preset: str = "slow"
    text: str = ""
    sound: Path | None = None


@dataclass(frozen=True)
class MoreFrames:
    """Frames between those of a run: factor - 1 in each gap. between: makes them, see `JobContext.frames_between`.

    kept: a folder where all frames of the smoother video are laid out as PNGs. whole: it lasts as long as the run's
    own, the last picture standing still at its end.
    """

    factor: int
    between: Any
    kept: Path | None = None
    whole: bool = False


def film_gap(frames: int, factor: int) -> int:
    """Frames that FILM puts into each gap of a run, so that there are about `factor` times as many in all."""
    return round(frames * (factor - 1) / (frames - 1)) if frames > 1 else 0


def stitch(frames: Sequence[Path], target: Path, film: Film, more: MoreFrames | None = None) -> Path:
    """A video or GIF, by the target's ending, of the frames in order. Returns: target. Raises: WebuiError."""
    from webui.extensions.api import video

    encoding = video.Encoding(format="gif" if target.suffix == ".gif" else "mp4", crf=film.crf, preset=film.preset)
    pictures = _pictures(frames)
    if more is not None:
        pictures = video.interpolated(pictures, more.factor, more.between, whole=more.whole)
        if more.kept is not None:
            pictures = _kept(pictures, more.kept)
    sound = None if film.sound is None or target.suffix == ".gif" else video.Sound(film.sound)
    video.write_video(target, pictures, film.fps, encoding, film.text, sound)
    return target


def _pictures(frames: Sequence[Path]) -> Iterator[Any]:
    import numpy as np
    from PIL import Image

    for path in frames:
        with Image.open(path) as image:
            yield np.asarray(image.convert("RGB"))


def _kept(pictures: Iterator[Any], folder: Path) -> Iterator[Any]:
    """The pictures, each written into the folder as it passes. Raises: NotSaved."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        write_whole(folder / f"{number:09}.png", encode_image(Image.fromarray(picture), "png", None))
        yield picture
