"""Videos as a stream of pictures: one at a time is in memory, however long the video is.

Pictures are (height, width, 3) uint8 arrays of sRGB, upright and with square pixels.
"""

from __future__ import annotations

import io
import re
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from webui.core.errors import InvalidRequest
from webui.core.memory import MOST_INPUT_PIXELS, require_room
from webui.core.pictures import decoded_picture, open_picture
from webui.video.rates import FASTEST, SLOWEST, as_rate, resampled, resampled_by_time

Picture = NDArray[np.uint8]

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif,avi,mpegts,mpeg,ogg,flv,asf,apng,mp3,wav,flac,aac"
"""FFmpeg's demuxers that are used. Playlists are none of them: those name other files and addresses to open."""
OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": CONTAINERS,
    "max_pixels": str(MOST_INPUT_PIXELS),
}
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif")
"""Endings of the files that are frames when a folder is a video."""
FOLDER_RATE = Fraction(30)
"""Frames a second of a folder of pictures, unless another is asked for."""

_UNTAGGED, _BT601, _BT709 = 2, 5, 1  # AVColorSpace
_SMALLEST_HD = 720
_COMMON_RATES = [
    *(Fraction(number * 1000, 1001) for number in (24, 30, 60)),
    *(Fraction(number) for number in (5, 6, 8, 10, 12, 12.5, 15, 16, 18, 20, 24, 25, 30, 48, 50, 60, 120)),
]


class Budget(NamedTuple):
    """What a video may have at most; looked at before frames are decoded."""

    bytes: int = 16 * 2**30
    frames: int = 500_000
    seconds: int = 6 * 3600


class Frame(NamedTuple):
    """number: counted from 0. time: in seconds from the first frame's."""

    number: int
    time: Fraction
    picture: Picture


@dataclass(frozen=True)
class Video:
    """A video that can be read.

    width, height: of its pictures. rate: frames a second, the mean where it varies.
    ticks: when each frame is shown, in units of `tick` seconds from the first; rising. duration: in seconds.
    origin: seconds at which the first frame stands in the file, whose sound counts from 0.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    ticks: Sequence[int] = field(repr=False)
    tick: Fraction
    duration: Fraction
    is_constant: bool = True
    has_sound: bool = False
    origin: Fraction = Fraction(0)
    decode: Callable[[int], Iterator[tuple[int, Picture]]] = field(default=lambda first: iter(()), repr=False)
    """From frame `first` on or somewhat earlier: (number, picture), some missing where the file is damaged."""

    @property
    def count(self) -> int:
        """How many frames it has, at least one."""
        return len(self.ticks)

    def time(self, number: int) -> Fraction:
        """Seconds from the first frame's time to that of frame `number`."""
        return number / self.rate if self.is_constant else self.ticks[number] * self.tick

    @cached_property
    def times(self) -> list[Fraction]:
        return [self.time(number) for number in range(self.count)]

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """Its frames from number `first` on, in order. One that is damaged is passed over.

        Raises: InvalidRequest when none can be read.
        """
        found = False
        for number, picture in self.decode(first):
            if number >= first:
                found = True
                yield Frame(number, self.time(number), picture)
        if not found:
            raise InvalidRequest(f'No frame of "{self.path.name}" can be read; the video is damaged.')

    def selected(self, numbers: Iterable[int]) -> Iterator[Frame]:
        """The frames of these numbers, which never decrease: each as often as it is named.

        For one that is damaged comes the one before it, or the first that can be read.
        """
        wanted = list(numbers)
        if not wanted:
            return
        frames = self.frames(wanted[0])
        shown, ahead = next(frames), next(frames, None)
        for number in wanted:
            while ahead is not None and ahead.number <= number:
                shown, ahead = ahead, next(frames, None)
            yield Frame(number, self.time(number), shown.picture)

    def resampled(
        self, rate: Fraction | float, start: Fraction | float = 0, end: Fraction | float | None = None
    ) -> list[int]:
        """The number of the frame that each frame of a video of another rate shows; its duration is the same.

        start, end: the part that is taken, in seconds; None for the video's end.
        Raises: InvalidRequest for a part that is empty.
        """
        begin = Fraction(start)
        stop = self.duration if end is None else min(Fraction(end), self.duration)
        if not 0 <= begin < stop:
            last = "its end" if end is None else f"{float(end):g} s"
            length = f"{float(self.duration):.6g} s"
            raise InvalidRequest(f"The part from {float(begin):g} s to {last} is empty: the video lasts {length}.")
        if self.is_constant and begin == 0 and stop == self.duration:
            return resampled(self.count, self.rate, rate)
        return resampled_by_time(self.times, rate, begin, stop)


def open_video(path: Path, rate: Fraction | float = FOLDER_RATE, budget: Budget = Budget()) -> Video:  # noqa: B008
    """The head of a video: MP4, MOV, WebM, MKV, AVI, GIF, animated WebP, or a folder of pictures in natural order.

    rate: frames a second of a folder, which has none of its own.
    Raises: InvalidRequest when it isn't there, isn't a video, is damaged, or is more than the budget allows.
    """
    if path.is_dir():
        return _open_folder(path, as_rate(rate), budget)
    if not path.is_file():
        raise InvalidRequest(f'There is no video "{path}".')
    size = path.stat().st_size
    if size > budget.bytes:
        raise InvalidRequest(f'"{path.name}" has {_gib(size)} GiB; a video may have {_gib(budget.bytes)}.')
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _open_webp(path, budget)
    return _open_container(path, budget)


@contextmanager
def opened(file: Path | bytes) -> Iterator[InputContainer]:
    """A container of FFmpeg's, of those that are a file of their own. file: where it is, or its content.

    Raises: InvalidRequest for what can't be read as one.
    """
    source: Any = io.BytesIO(file) if isinstance(file, bytes) else str(file.resolve())
    try:
        container = av.open(source, options=dict(OPTIONS), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, OSError) as error:
        name = "This" if isinstance(file, bytes) else f'"{file.name}"'
        raise InvalidRequest(
            f"{name} isn't a video that can be read: it is damaged, cut off, or of an unknown kind."
        ) from error
    with container:
        yield container


def _open_container(path: Path, budget: Budget) -> Video:
    with opened(path) as container:
        stream = _video_stream(container, path)
        width, height = stream.codec_context.width, stream.codec_context.height
        require_room([(f'A frame of "{path.name}"', width, height)])
        length = container.duration / av.time_base if container.duration else 0
        _require_within(budget, path, stream.frames, length)
        tick = Fraction(stream.time_base or Fraction(1, 1000))
        stamps, last_duration, stamped = _timestamps(container, stream, budget, path)
        told = [stream.guessed_rate, stream.average_rate, stream.base_rate]
        has_sound = bool(container.streams.audio)
    if not stamps:
        raise InvalidRequest(f'"{path.name}" has no frames; the video is damaged or empty.')
    ticks = [stamp - stamps[0] for stamp in stamps]
    rate, constant = _rate(ticks, tick, last_duration, [Fraction(rate) for rate in told if rate])
    if not stamped:
        ticks, tick, constant = list(range(len(ticks))), 1 / rate, True
    duration = len(ticks) / rate if constant else ticks[-1] * tick + (last_duration * tick or 1 / rate)
    _require_within(budget, path, len(ticks), float(duration))
    reader = _Reader(path, stamps, stamped)
    first = next(reader(0), None)
    if first is None:
        raise InvalidRequest(f'No frame of "{path.name}" can be read; the video is damaged.')
    height, width = first[1].shape[:2]
    origin = stamps[0] * tick if stamped else Fraction(0)
    return Video(path, width, height, rate, ticks, tick, duration, constant, has_sound, origin, reader)


def _video_stream(container: InputContainer, path: Path) -> Any:
    stream = container.streams.best("video")
    if stream is None:
        raise InvalidRequest(f'"{path.name}" has no pictures; choose a video.')
    return stream


def _timestamps(container: InputContainer, stream: Any, budget: Budget, path: Path) -> tuple[list[int], int, bool]:
    """When each frame is shown, in the stream's ticks, rising; how long the last is; whether the file tells it.

    Without times the frames are numbered as they stand in the file. No frame is decoded.
    """
    stamps: dict[int, int] = {}
    unstamped = 0
    try:
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            unstamped += packet.pts is None
            stamp = len(stamps) if packet.pts is None else packet.pts
            stamps[stamp] = packet.duration or 0
            _require_within(budget, path, len(stamps), 0)
    except av.error.FFmpegError:
        pass  # noqa: S110  # cut off: what came before can be used
    if unstamped:
        return list(range(len(stamps))), 0, False
    rising = sorted(stamps)
    return rising, stamps[rising[-1]] if rising else 0, True


def _rate(ticks: Sequence[int], tick: Fraction, last_duration: int, told: Sequence[Fraction]) -> tuple[Fraction, bool]:
    """Frames a second, and whether every frame is shown at its time, but for rounding to ticks.

    told: what the file says; used where its times agree.
    """
    told = [rate for rate in told if SLOWEST <= rate <= FASTEST]
    if len(ticks) < 2:
        lasting = last_duration * tick
        return (
            1 / lasting if lasting and SLOWEST <= 1 / lasting <= FASTEST else told[0] if told else Fraction(25)
        ), True
    mean = Fraction(len(ticks) - 1) / (ticks[-1] * tick)
    mean = min(max(mean, SLOWEST), Fraction(FASTEST))
    near = [rate for rate in _COMMON_RATES if abs(rate / mean - 1) < Fraction(1, 100)]
    times = np.asarray(ticks, dtype=np.float64) * float(tick)
    for rate in [*told, *sorted(near, key=lambda rate: abs(rate - mean)), mean]:
        apart = np.abs(times - np.arange(len(ticks)) / float(rate)).max()
        if apart <= min(1.5 * float(tick), 0.25 / float(rate)) + 1e-9:
            return rate, True
    total = ticks[-1] * tick + (last_duration * tick or 1 / mean)
    return min(max(len(ticks) / total, SLOWEST), Fraction(FASTEST)).limit_denominator(100_000), False


class _Reader:
    """Decodes a container's frames from one of them on."""

    def __init__(self, path: Path, stamps: Sequence[int], stamped: bool) -> None:
        self.path, self.stamps, self.stamped = path, stamps, stamped

    def __call__(self, first: int) -> Iterator[tuple[int, Picture]]:
        with opened(self.path) as container:
            stream = _video_stream(container, self.path)
            seekable = first > 0 and self.stamped and stream.codec_context.name not in ("gif", "apng")
            if seekable:
                try:
                    container.seek(self.stamps[first], stream=stream)
                except av.error.FFmpegError:
                    seekable = False
            if seekable:
                numbered = self._numbered(container, stream)
                ahead = next(numbered, None)
                if ahead is not None and ahead[0] <= first:
                    yield self._picture(ahead, stream)
                    yield from (self._picture(frame, stream) for frame in numbered)
                    return
        with opened(self.path) as container:
            stream = _video_stream(container, self.path)
            yield from (
                self._picture(frame, stream) for frame in self._numbered(container, stream) if frame[0] >= first
            )

    def _numbered(self, container: InputContainer, stream: Any) -> Iterator[tuple[int, VideoFrame]]:
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": OPTIONS["max_pixels"]}
        counted = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet is not None else []
            except av.error.FFmpegError as error:
                if isinstance(error, av.error.InvalidDataError) and packet is not None:
                    continue  # this frame is damaged
                return
            if packet is None:
                return
            for frame in frames:
                if self.stamped and frame.pts is not None:
                    number = max(bisect_right(self.stamps, frame.pts) - 1, 0)
                else:
                    number = counted
                counted = number + 1
                yield number, frame

    def _picture(self, numbered: tuple[int, VideoFrame], stream: Any) -> tuple[int, Picture]:
        number, frame = numbered
        ratio = stream.sample_aspect_ratio or Fraction(1)
        if not Fraction(1, 8) <= ratio <= 8:  # nonsense in a damaged head
            ratio = Fraction(1)
        context = stream.codec_context
        width, height = max(round(context.width * ratio), 1), context.height
        require_room([(f'A frame of "{self.path.name}"', width, height)])
        space = frame.colorspace
        if space == _UNTAGGED:
            space = _BT709 if height >= _SMALLEST_HD else _BT601
        shown = frame.reformat(width=width, height=height, format="rgb24", src_colorspace=space)
        return number, _upright(np.asarray(shown.to_ndarray(), dtype=np.uint8), _matrix(frame))


def _matrix(frame: VideoFrame) -> Sequence[int] | None:
    """How the frame is turned and mirrored: (a, b, c, d) that take x to a x + c y and y to b x + d y."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
    return a, b, c, d


def _upright(picture: Picture, matrix: Sequence[int] | None) -> Picture:
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if abs(b) > abs(a):
        picture, a, d = picture.transpose(1, 0, 2), c, b
    if a < 0:
        picture = picture[:, ::-1]
    if d < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def _open_folder(folder: Path, rate: Fraction, budget: Budget) -> Video:
    files = sorted((path for path in folder.iterdir() if path.suffix.lower() in PICTURES), key=_natural)
    if not files:
        raise InvalidRequest(f'The folder "{folder}" has no pictures.')
    _require_within(budget, folder, len(files), float(len(files) / rate))
    first = decoded_picture(files[0].read_bytes(), f'"{files[0].name}"')

    def decode(start: int) -> Iterator[tuple[int, Picture]]:
        for number in range(start, len(files)):
            try:
                shown = decoded_picture(files[number].read_bytes(), f'"{files[number].name}"').convert("RGB")
            except (InvalidRequest, OSError):
                continue  # this frame is damaged
            if shown.size != first.size:
                shown = shown.resize(first.size, Image.Resampling.LANCZOS)
            yield number, np.array(shown)

    ticks = range(len(files))
    return Video(folder, first.width, first.height, rate, ticks, 1 / rate, len(files) / rate, decode=decode)


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _open_webp(path: Path, budget: Budget) -> Video:
    """FFmpeg reads no animated WebP; Pillow does, frame after frame."""
    head = open_picture(path.read_bytes())
    require_room([(f'A frame of "{path.name}"', head.width, head.height)])
    count = getattr(head, "n_frames", 1)
    _require_within(budget, path, count, 0)
    starts, now = list[int](), 0
    lasting = 0
    for number in range(count):
        try:
            head.seek(number)
            head.load()
        except (OSError, EOFError, SyntaxError):
            break
        lasting = int(head.info.get("duration", 0)) or 100
        starts.append(now)
        now += lasting
        _require_within(budget, path, number, now / 1000)
    if not starts:
        raise InvalidRequest(f'No frame of "{path.name}" can be read; the video is damaged.')
    tick = Fraction(1, 1000)
    rate, constant = _rate(starts, tick, lasting, [])

    def decode(first: int) -> Iterator[tuple[int, Picture]]:
        with warnings.catch_warnings(), Image.open(path) as image:
            for number in range(first, len(starts)):
                image.seek(number)
                yield number, np.array(image.convert("RGB"))

    duration = len(starts) / rate if constant else now * tick
    return Video(path, head.width, head.height, rate, starts, tick, duration, constant, decode=decode)


def read_texts(file: Path | bytes) -> tuple[str | None, dict[str, str]]:
    """The infotext in a video's comment, None if it has none, and its other texts. No picture is decoded.

    Raises: InvalidRequest if it isn't a video.
    """
    with opened(file) as container:
        texts = {key.lower(): text for key, text in container.metadata.items()}
    infotext = texts.pop("parameters", None) or texts.pop("comment", None)
    return infotext or None, texts


def _require_within(budget: Budget, path: Path, frames: int, seconds: float) -> None:
    if frames > budget.frames:
        raise InvalidRequest(f'"{path.name}" has {frames} frames; a video may have {budget.frames}.')
    if seconds > budget.seconds:
        raise InvalidRequest(f'"{path.name}" lasts {seconds:.0f} s; a video may last {budget.seconds} s.')


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g}"


def resized(picture: Picture, width: int, height: int) -> Picture:
    """The picture stretched to width x height pixels."""
    if picture.shape[:2] == (height, width):
        return picture
    smaller = width * height < picture.shape[0] * picture.shape[1]
    scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return np.asarray(scaled, dtype=np.uint8)
