"""Videos taken apart into frames, and frames put together into a video, through PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from webui.extensions.api import InvalidRequest

from .frames import input_name

QUALITY = 95  # of JPEG
DEFAULT_CRF, DEFAULT_PRESET = 17, "slow"


def extract_frames(video: Path, folder: Path, every: int, first: int, last: int, overwrite: bool) -> list[Path]:
    """Every nth frame of a video as a JPEG file, numbered from 0; those that are there already are kept.

    first, last: frames of the video, both included; last -1 is the end. overwrite: make them anew.
    Raises: InvalidRequest when the video can't be read or has no such frames.
    """
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    there = sorted(folder.glob(f"{_escaped(video.stem)}" + "[0-9]" * 9 + ".jpg"))
    if there and not overwrite:
        return there
    for old in there:
        old.unlink()
    made = []
    for number, picture in enumerate(read_frames(video)):
        if last != -1 and number > last:
            break
        if number >= first and (number - first) % every == 0:
            path = folder / input_name(video.stem, len(made))
            encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            path.write_bytes(encoded.tobytes())
            made.append(path)
    if not made:
        raise InvalidRequest(f"{video} has no frames from {first} to {'its end' if last == -1 else last}.")
    return made


def read_frames(video: Path) -> Iterator[Any]:
    """Each frame, (H, W, 3) uint8 BGR. Raises: InvalidRequest."""
    import av

    if not video.is_file():
        raise InvalidRequest(f"There is no video {video}.")
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise InvalidRequest(f"{video} has no pictures in it.")
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="bgr24")
    except av.FFmpegError as error:
        raise InvalidRequest(f"The video {video} can't be read: {error}.") from error


def write_video(
    pictures: Sequence[Path],
    target: Path,
    fps: float,
    sound: Path | None = None,
    crf: int = DEFAULT_CRF,
    preset: str = DEFAULT_PRESET,
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """An MP4 file (H.264, yuv420p) of the pictures in order, with sound as long as both last. Returns: target.

    Raises: InvalidRequest when there are no pictures or the sound can't be read.
    """
    import av
    import numpy as np
    from PIL import Image

    if not pictures:
        raise InvalidRequest("There are no frames to make a video of.")
    with Image.open(pictures[0]) as first:
        width, height = first.size
    rate = Fraction(fps).limit_denominator(1001)
    partial = target.with_suffix(".part.mp4")
    try:
        with av.open(str(partial), "w", format="mp4") as out:
            stream = out.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": preset})
            stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
            audio = _Sound(sound, out, len(pictures) / float(rate)) if sound is not None else None
            for path in pictures:
                if stopped():
                    break
                with Image.open(path) as image:
                    array = np.asarray(image.convert("RGB").resize((width, height)))
                for packet in stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")):
                    out.mux(packet)
            for packet in stream.encode():
                out.mux(packet)
            if audio is not None:
                audio.write()
        partial.replace(target)
    except av.FFmpegError as error:
        raise InvalidRequest(f"The video {target.name} can't be made: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def write_gif(pictures: Sequence[Path], target: Path, fps: float) -> Path:
    """An animated GIF that goes round for ever. Returns: target."""
    from PIL import Image

    if not pictures:
        raise InvalidRequest("There are no frames to make a GIF of.")
    images = []
    for path in pictures:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    images[0].save(target, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    return target


class _Sound:
    """The sound of a file, encoded for a video that lasts so many seconds."""

    def __init__(self, source: Path, out: Any, seconds: float) -> None:
        import av

        if not source.is_file():
            raise InvalidRequest(f"There is no sound file {source}.")
        self._source, self._out, self._seconds = source, out, seconds
        with av.open(str(source)) as container:
            if not container.streams.audio:
                raise InvalidRequest(f"{source} has no sound in it.")
            rate = container.streams.audio[0].rate or 44100
        self._stream = out.add_stream("aac", rate=rate)

    def write(self) -> None:
        import av

        with av.open(str(self._source)) as container:
            for frame in container.decode(audio=0):
                if frame.time is not None and frame.time >= self._seconds:
                    break
                frame.pts = None
                for packet in self._stream.encode(frame):
                    self._out.mux(packet)
        for packet in self._stream.encode(None):
            self._out.mux(packet)


def _escaped(stem: str) -> str:
    import glob

    return glob.escape(stem)
