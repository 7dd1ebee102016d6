"""A video that steers the clip: ControlNet's units without pictures of their own follow it, a frame for each frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from webui.extensions.api import InvalidRequest, keep_given

from .parameters import MOST_FRAMES, AnimateDiff

FOLDER = "animatediff"
"""Of the temporary files: videos that clients send."""
BATCH, SIMPLE = "batch", "simple"
"""ControlNet's names of what a unit has: pictures one after the other, one picture."""


def followed(request: Any, asked: AnimateDiff, easel: Any) -> tuple[Any, AnimateDiff, list[str]]:
    """The request whose units have their frames, the clip with its length, and what has no effect.

    A unit's own pictures come before the video, as do those of img2img where there is one for each frame. A clip
    without a number of frames is as long as the shortest of these. Raises: InvalidRequest, Refused.
    """
    film, masks = _film(asked, easel), _found(asked.mask_path, "The mask path", easel)
    kind = easel.group("ControlNet")
    group = None if kind is None else request.extensions.get(kind.__name__)
    units: Sequence[Any] = () if group is None else group.units
    begins_with_frames = request.image is not None and len(request.image.images) > 1
    general = None if begins_with_frames else film
    made = tuple(_with_frames(unit, number, general, masks, easel) for number, unit in enumerate(units))
    remarks = _unheeded(made, film, masks)
    counts = [count for unit in made if unit.enabled for count in _counts(unit)]
    if counts:
        asked = _as_long(asked, min(counts))
    if any(unit.enabled for unit in made) and group is not None:
        group = group.replace(units=made, clip=asked.frames)
        request = request.replace(extensions={**request.extensions, kind.__name__: group})
    return request, asked, remarks


def _film(asked: AnimateDiff, easel: Any) -> Path | None:
    """The video: the path before the one that was sent."""
    if asked.video_path.strip() or not asked.video_source:
        return _found(asked.video_path, "The video path", easel)
    return keep_given(asked.video_source, easel.paths.tmp / FOLDER, easel.paths.data, "video_source")


def _found(name: str, title: str, easel: Any) -> Path | None:
    """Raises: InvalidRequest for a path without a file, Refused for one that may not be named."""
    if not name.strip():
        return None
    path: Path = easel.folder_of(name)
    if not path.exists():
        raise InvalidRequest(f"AnimateDiff: {title} {path} isn't there; name a video or a folder of pictures.")
    return path


def _with_frames(unit: Any, number: int, film: Path | None, masks: Path | None, easel: Any) -> Any:
    """The unit with where its frames come from, if they are several."""
    if not unit.enabled or unit.input_mode not in (BATCH, SIMPLE):
        return unit
    given: dict[str, Any] = {}
    if unit.input_mode == BATCH and unit.images:
        given = {"frames": unit.images}
    elif unit.input_mode == BATCH and unit.batch_dir.strip():
        given = {"film": str(_found(unit.batch_dir, f"The input directory of ControlNet unit {number},", easel))}
    elif film is not None and (unit.input_mode == BATCH or unit.image is None):
        given = {"film": str(film)}
    if not given:
        return unit
    if masks is not None and "film" in given and unit.preprocessor.masked:
        given["film_masks"] = str(masks)
    alone = {"input_mode": SIMPLE, "image": None, "images": (), "batch_dir": "", "loopback": False}
    return unit.replace(**alone, **given)


def _counts(unit: Any) -> list[int]:
    """How many frames the unit's pictures are for, none where they are the same for all."""
    from webui.extensions.api import video

    films = [video.open_video(Path(path)).count for path in (unit.film, unit.film_masks) if path]
    return [*films, len(unit.frames)] if unit.frames else films


def _as_long(asked: AnimateDiff, count: int) -> AnimateDiff:
    if asked.video_length == 0:
        if count > MOST_FRAMES:
            raise InvalidRequest(
                f"AnimateDiff: the control video has {count} frames, a clip at most {MOST_FRAMES}; name the number of "
                "frames."
            )
        return asked.replace(video_length=count, batch_size=min(asked.batch_size, count))
    if asked.frames > count:
        raise InvalidRequest(
            f"AnimateDiff: the control pictures are enough for {count} frames, the clip has {asked.frames}; give more, "
            "or lower the number of frames and the context batch size."
        )
    return asked


def _unheeded(units: Sequence[Any], film: Path | None, masks: Path | None) -> list[str]:
    remarks = []
    if film is not None and not any(unit.film == str(film) for unit in units):
        remarks.append(
            "AnimateDiff: the control video has no effect; enable a ControlNet unit without a picture of its own."
        )
    if masks is not None and not any(unit.film_masks for unit in units):
        remarks.append("AnimateDiff: the masks have no effect; they are for ControlNet preprocessors that read masks.")
    return remarks
