"""The clip as files: videos, frames and text under one number and name."""

from __future__ import annotations

import datetime
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from webui.extensions.api import GenerationResult, ResultFile, encode_image

from .parameters import FRAME, PNG, TXT, AnimateDiff

FOLDER = "AnimateDiff"
SCALE_OF_WEBM = 63 / 51
"""VP9's quality factor goes to 63, that of H.264, which the setting is for, to 51."""


def encoding_of(name: str, asked: AnimateDiff, settings: Any) -> Any:
    """How the kit is to write that format. Raises: InvalidRequest."""
    from webui.extensions.api import video

    crf = int(settings["animatediff_mp4_crf"])
    return video.Encoding(
        format=name.lower(),
        crf=min(round(crf * SCALE_OF_WEBM), 63) if name == "WEBM" else crf,
        preset=settings["animatediff_mp4_preset"] or "medium",
        loop=asked.loop_number,
        quality=int(settings["animatediff_webp_quality"]),
        lossless=bool(settings["animatediff_webp_lossless"]),
    )


def require_writable(asked: AnimateDiff, width: int, height: int, settings: Any) -> None:
    """Tell what can't be written before anything is made. Raises: InvalidRequest."""
    from webui.extensions.api import video

    for name in asked.videos:
        video.require_writable(encoding_of(name, asked, settings), asked.fps, width, height, None)


def shown_order(frames: Sequence[Any], asked: AnimateDiff) -> list[Any]:
    """The frames as they are played: a closed loop that is one context goes back the way it came."""
    if asked.closed_loop == "A" and asked.context.is_whole:
        return [*frames, *frames[-2:0:-1]]
    return list(frames)


def clips_of(result: GenerationResult, asked: AnimateDiff) -> Iterator[tuple[int, list[ResultFile], list[Any]]]:
    """(number of the first frame, its frames as files, as pictures) of each clip of a job."""
    files = [file for file in result.images if file.role == "picture"]
    count = asked.frames
    for start in range(0, len(result.pictures), count):
        yield start, files[start : start + count], list(result.pictures[start : start + count])


def save_clips(result: GenerationResult, plan: Any, save_file: Callable[..., ResultFile]) -> list[ResultFile]:
    """Write every clip in every format asked for. Returns: videos and texts; frames are results already.

    Raises: InvalidRequest for what a format can't hold.
    """
    asked: AnimateDiff = plan.extension(AnimateDiff)
    made: list[ResultFile] = []
    day = datetime.datetime.now().strftime("%Y-%m-%d")
    number = next_number(samples_folder(plan) / FOLDER / day) if asked.kept else 0
    for place, (start, files, pictures) in enumerate(clips_of(result, asked)):
        ends = f"-{asked.request_id}" if asked.request_id else ""
        stem = f"{number + place:05}-{plan.seeds[start]}{ends}"
        text = files[0].infotext

        def keep(data: bytes, ending: str, mime: str, role: str, infotext: str, *parts: str, name: str) -> ResultFile:
            if not asked.kept:
                return ResultFile(data, mime, infotext, role=role)
            return save_file(data, ending, mime, role, infotext, folder=(FOLDER, day, *parts), name=name)

        for name in asked.videos:
            data, mime = written(name, shown_order(pictures, asked), asked, text, plan.settings)
            file = keep(data, name.lower(), mime, "video", text, name=stem)
            made.append(replace(file, width=pictures[0].width, height=pictures[0].height))
        if TXT in asked.format:
            made.append(keep(text.encode(), "txt", "text/plain", "text", text, name=stem))
        if PNG in asked.format and asked.kept:
            for index, (file, picture) in enumerate(zip(files, pictures, strict=True)):
                data = file.data if file.mime == "image/png" else encode_image(picture, "png", file.infotext)
                keep(data, "png", "image/png", "picture", file.infotext, stem, name=f"{index:05}")
    return made


def written(name: str, frames: Sequence[Any], asked: AnimateDiff, infotext: str, settings: Any) -> tuple[bytes, str]:
    """A video of the frames and its type."""
    import numpy as np

    from webui.extensions.api import video

    encoding = encoding_of(name, asked, settings)
    with tempfile.TemporaryDirectory(prefix="animatediff-") as folder:
        path = Path(folder) / f"clip.{encoding.format}"
        text = infotext if settings["enable_pnginfo"] else ""
        arrays = (np.asarray(frame.convert("RGB")) for frame in frames)
        video.write_video(path, arrays, asked.fps, encoding, text)
        return path.read_bytes(), video.MIME[encoding.format]


def samples_folder(plan: Any) -> Path:
    """Where the settings have pictures saved; a relative one is below the data folder, which `save_file` knows."""
    settings = plan.settings
    return Path(settings["outdir_samples"] or settings[f"outdir_{plan.request.mode}_samples"])


def next_number(folder: Path) -> int:
    """One more than the highest number that a clip of the folder begins with."""
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    found = [re.match(r"\d{1,18}(?!\d)", name) for name in names]
    return 1 + max((int(match[0]) for match in found if match), default=-1)


def shown(result: GenerationResult, asked: AnimateDiff) -> GenerationResult:
    """What is handed back: the videos in the place of the frames, which follow them if that is asked for."""
    videos = tuple(file for file in result.files if file.role == "video")
    if not videos:
        return result
    frames: list[ResultFile] = []
    if FRAME in asked.format:
        for _, files, _ in clips_of(result, asked):
            frames += shown_order(files, asked)
    others = tuple(file for file in result.images if file.role not in ("picture", "grid"))
    files = tuple(file for file in result.files if file.role != "video")
    return replace(result, images=(*videos, *frames, *others), files=files)
