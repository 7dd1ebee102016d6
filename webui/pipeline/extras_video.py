"""A film of a video: the operations of Extras on each of its frames, its sound beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from webui.core.errors import not_saved
from webui.core.extras import FLOW, ExtrasRequest, PictureSource
from webui.core.infotext import render
from webui.core.pictures import encode_image
from webui.core.results import ResultFile
from webui.models.stopping import Stopped
from webui.pipeline.between import frames_between
from webui.pipeline.operations import EnlargedPictures, operate, target_of
from webui.pipeline.saving.names import safe_part
from webui.pipeline.saving.picture_files import free_path, next_number
from webui.video import (
    MIME,
    Between,
    Encoding,
    Video,
    VideoFormat,
    interpolated,
    open_video,
    read_texts,
    sound_of,
    write_video,
)

if TYPE_CHECKING:
    from webui.pipeline.extras import Work

WITH_SOUND = ("mp4", "webm")
PREVIEW_SIDE = 512
LARGEST_SHOWN = 512 * 2**20
"""Bytes of a film that is handed back; a larger one is only saved."""


def make_film(source: PictureSource, work: Work) -> ResultFile:
    """The video with every frame operated on, with frames between if asked for, of the same duration and sound.

    One that is slowed down is silent. An interrupted job makes a film of the frames that are done.
    Raises: InvalidRequest for what is no video, NotSaved, Stopped before the first frame is done.
    """
    assert source.file is not None
    engine = work.request.frame_engine if work.request.frames > 1 else FLOW
    with frames_between(engine, work.context.models, work.context.easel.paths.models) as between:
        return _film(source, work, between)


def _film(source: PictureSource, work: Work, between: Between) -> ResultFile:
    assert source.file is not None
    request, video = work.request, open_video(source.file)
    infotext, _ = read_texts(source.file)
    done: dict[str, object] = {}
    pictures = _operated(source.name, video, work, done)
    first = next(pictures, None)
    if first is None:
        raise Stopped
    done |= _told(request)
    said = render("", "", done)
    format = cast("VideoFormat", request.video_format)
    path = _place(source, work, format)
    sound = sound_of(video) if format in WITH_SOUND and request.slower == 1 else None
    text = ", ".join(part for part in (infotext, said) if part)
    smooth = interpolated(_after(first, pictures), request.frames, between, whole=True)
    rate = video.rate * request.frames / request.slower
    written = write_video(path, smooth, rate, Encoding(format), text, sound)
    total, count = len(video.resampled(video.rate)), written.count // request.frames
    if count < total:
        work.context.tell(f"the film ends after {count} of {total} frames, where the job was stopped.")
    if work.plan.settings["save_txt"]:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
    shown = path.stat().st_size <= LARGEST_SHOWN
    if not shown:
        work.context.tell(f"the film is too large to be shown here; it is saved as {path}.")
    data = path.read_bytes() if shown else b""
    return ResultFile(data, MIME[format], said, written.width, written.height, str(path), "video")


def _told(request: ExtrasRequest) -> dict[str, object]:
    """What was asked for beyond the frames' own operations, by the keys that tell it."""
    return {
        **({"Frames between": f"{request.frames - 1} by {request.frame_engine}"} if request.frames > 1 else {}),
        **({"Slow motion": request.slower} if request.slower > 1 else {}),
    }


def _operated(name: str, video: Video, work: Work, done: dict[str, object]) -> Iterator[Any]:
    """The frames, each worked on when it is asked for, until the job is to end.

    done: takes what was done to the first one.
    """
    job, request = work.context.job, work.request
    steps = work.plan.steps_of(work.context.choices)
    for step in steps:
        if not step.frames and getattr(request.values_of(step.params), "enabled", False):
            work.context.tell(f"{step.name} is for pictures and was left out of the video.")
    steps = tuple(step for step in steps if step.frames)
    numbers = video.resampled(video.rate)
    target = target_of(steps, request, Image.new("1", (video.width, video.height)))
    settings = work.settings.replace(upscaling_max_images_in_cache=0)  # no frame comes twice
    context = replace(work.context, settings=settings, enlarged=EnlargedPictures(), counts=False, target=target)
    for number, frame in zip(job.steps(numbers), video.selected(numbers), strict=False):
        job.text(f"{name}: frame {number + 1} of {len(numbers)}")
        made = operate(Image.fromarray(frame.picture), steps, request.values_of, context)[0]
        if not job.completes_pass:
            return
        if not done:
            done |= made.done
        picture = made.image.convert("RGB")
        job.show(_preview(picture), "image/jpeg")
        yield np.asarray(picture)


def _after(first: Any, others: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from others


def _place(source: PictureSource, work: Work, format: str) -> Path:
    """A file that isn't there yet. Raises: NotSaved naming the folder when it can't be made."""
    named = work.request.keep_names and work.plan.settings["use_original_name_batch"]
    try:
        work.folder.mkdir(parents=True, exist_ok=True)
        stem = safe_part(Path(source.name).stem) if named else f"{next_number(work.folder, ''):05}"
    except OSError as error:
        raise not_saved(f"The film can't be saved in {work.folder}", error) from error
    return free_path(work.folder / f"{stem or 'film'}.{format}")


def _preview(picture: Image.Image) -> bytes:
    small = picture.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return encode_image(small, "jpg", None, quality=85)
