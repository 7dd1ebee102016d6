"""Videos written as their pictures come: a few of them are in memory, however many there are.

A file takes its place when it is whole. Pictures are (height, width, 3) uint8 arrays of sRGB, all of the first's size.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import av
import numpy as np
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from webui.core.errors import InvalidRequest, WebuiError, not_saved
from webui.core.files import atomic_path, write_atomic
from webui.core.pictures import LARGEST_SIDE, encode_image, text_exif
from webui.video.rates import as_rate
from webui.video.reading import Picture, opened, resized
from webui.video.sound import COPIED, Sound, SoundTrack

VideoFormat = Literal["mp4", "webm", "webp", "gif", "png"]
VIDEO_FORMATS: tuple[VideoFormat, ...] = get_args(VideoFormat)
MIME = {"mp4": "video/mp4", "webm": "video/webm", "webp": "image/webp", "gif": "image/gif", "png": "image/png"}
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
GIF_FASTEST = Fraction(50)
"""Frames a second: a GIF counts in hundredths, and browsers slow down those shown for less than two."""
LARGEST_FILM_SIDE = 16_384
"""Pixels, of H.264 and VP9 as they are encoded here."""

_BT709, _LIMITED = 1, 1  # AVColorPrimaries, AVColorTransferCharacteristic and AVColorSpace; AVColorRange


@dataclass(frozen=True)
class Encoding:
    """How a video is written. crf: 0 (no loss) to 51 for MP4, to 63 for WebM. preset: of x264.

    loop: how often GIF and WebP are shown, 0 for ever. quality: 0 to 100, of WebP.
    """

    format: VideoFormat = "mp4"
    crf: int = 17
    preset: str = "medium"
    loop: int = 0
    quality: int = 80
    lossless: bool = False

    def __post_init__(self) -> None:
        if self.format not in VIDEO_FORMATS:
            raise InvalidRequest(f'The video format "{self.format}" is unknown; use {", ".join(VIDEO_FORMATS)}.')
        if self.preset not in PRESETS:
            raise InvalidRequest(f'The preset "{self.preset}" is unknown; use {", ".join(PRESETS)}.')
        most = 63 if self.format == "webm" else 51
        if not 0 <= self.crf <= most:
            raise InvalidRequest(f"The quality factor (crf) is {self.crf}; choose one from 0 to {most}.")
        if not 0 <= self.quality <= 100:
            raise InvalidRequest(f"The quality is {self.quality}; choose one from 0 to 100.")
        if not 0 <= self.loop <= 65_535:
            raise InvalidRequest(f"The number of loops is {self.loop}; choose one from 0 (for ever) to 65535.")


@dataclass(frozen=True)
class WrittenVideo:
    """path: the file, or the folder of a PNG sequence. width, height: of its pictures as they are stored."""

    path: Path
    count: int
    rate: Fraction
    width: int
    height: int


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    rate: Fraction | float,
    encoding: Encoding = Encoding(),  # noqa: B008
    infotext: str = "",
    sound: Sound | None = None,
) -> WrittenVideo:
    """Write pictures as a video that browsers play, or as a folder of PNGs (000001.png ...).

    rate: frames a second, kept exactly, 30000/1001 too. sound: for MP4 and WebM, no longer than the pictures.
    infotext: where PNG Info finds it.
    Raises: InvalidRequest without pictures and for what the format can't hold, NotSaved when it can't be written.
    Errors of `pictures` pass; whatever is raised, no half file is left, but PNGs stay.
    """
    rate = as_rate(rate)
    sequence = iter(pictures)
    first = next(sequence, None)
    if first is None:
        raise InvalidRequest("There are no frames to make a video of.")
    height, width = first.shape[:2]
    all_pictures = (resized(picture, width, height) for picture in chain([first], sequence))
    counted = _Counted(all_pictures)
    size = width, height
    require_writable(encoding, rate, width, height, sound)
    try:
        if encoding.format == "png":
            for number, picture in enumerate(counted, start=1):
                image = Image.fromarray(picture)
                write_atomic(path / f"{number:06}.png", encode_image(image, "png", infotext))
        else:
            with atomic_path(path) as temporary:
                if encoding.format == "gif":
                    _write_gif(temporary, counted, size, rate, encoding, infotext)
                elif encoding.format == "webp":
                    _write_webp(temporary, counted, size, rate, encoding, infotext)
                else:
                    width, height = width + width % 2, height + height % 2
                    _write_film(temporary, counted, (width, height), rate, encoding, infotext, sound)
    except WebuiError:
        raise
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise not_saved(f'The video "{path.name}" can\'t be saved', error) from error
        reason = f"{width} x {height} pixels at {float(rate):g} frames a second as {encoding.format}"
        raise InvalidRequest(f"The video can't be encoded: {reason} ({error}).") from error
    except OSError as error:
        raise not_saved(f'The video "{path.name}" can\'t be saved', error) from error
    return WrittenVideo(path, counted.count, rate, width, height)


def require_writable(encoding: Encoding, rate: Fraction | float, width: int, height: int, sound: Sound | None) -> None:
    """Tell what `write_video` would refuse before the pictures are made.

    Raises: InvalidRequest for a rate or size that the format can't have, and for a soundtrack without sound.
    """
    if encoding.format == "gif" and as_rate(rate) > GIF_FASTEST:
        raise InvalidRequest(f"A GIF can have {GIF_FASTEST} frames a second, not {float(rate):g}; choose a lower rate.")
    most = LARGEST_SIDE.get(encoding.format, LARGEST_FILM_SIDE)
    if max(width, height) > most:
        raise InvalidRequest(f"{encoding.format} can have {most} pixels a side, not {width} x {height}.")
    if sound is not None and encoding.format in COPIED:
        with opened(sound.path) as container:
            if not container.streams.audio:
                raise InvalidRequest(f'"{sound.path.name}" has no sound; choose another soundtrack.')


class _Counted:
    def __init__(self, pictures: Iterator[Picture]) -> None:
        self._pictures = pictures
        self.count = 0

    def __iter__(self) -> Iterator[Picture]:
        for picture in self._pictures:
            yield picture
            self.count += 1


@contextmanager
def _container(path: Path, format: str, **options: str) -> Iterator[OutputContainer]:
    with av.open(str(path), "w", format=format, options=options) as container:
        yield container


def _write_film(
    path: Path,
    pictures: Iterable[Picture],
    size: tuple[int, int],
    rate: Fraction,
    encoding: Encoding,
    infotext: str,
    sound: Sound | None,
) -> None:
    """MP4 with H.264, or WebM with VP9. size: even; the last row and column are repeated where pictures are odd."""
    is_mp4 = encoding.format == "mp4"
    with _container(path, encoding.format, **({"movflags": "+faststart"} if is_mp4 else {})) as container:
        if infotext:
            container.metadata["comment"] = infotext
        quality = {"preset": encoding.preset} if is_mp4 else {"b": "0", "deadline": "good", "cpu-used": "4"}
        codec = "libx264" if is_mp4 else "libvpx-vp9"
        stream = _add_stream(container, codec, "yuv420p", size, rate, {"crf": str(encoding.crf), **quality})
        context = stream.codec_context
        context.color_range = _LIMITED
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        track = SoundTrack(container, encoding.format, sound) if sound is not None else None
        try:
            for index, picture in enumerate(pictures):
                height, width = picture.shape[:2]
                even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                frame = _frame(even, index, rate).reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    src_color_range=ColorRange.JPEG,
                    dst_color_range=ColorRange.MPEG,
                )
                container.mux(stream.encode(frame))
                if track is not None:
                    track.advance((index + 1) / rate)
            container.mux(stream.encode(None))
        finally:
            if track is not None:
                track.close()


def _add_stream(
    container: OutputContainer,
    codec: str,
    pixels: str,
    size: tuple[int, int],
    rate: Fraction,
    options: dict[str, str] | None = None,
) -> Any:
    stream: Any = container.add_stream(codec, rate=rate, options=options or {})
    stream.width, stream.height = size
    stream.pix_fmt = pixels
    stream.codec_context.time_base = 1 / rate
    return stream


def _frame(picture: Picture, index: int, rate: Fraction) -> VideoFrame:
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame.pts, frame.time_base = index, 1 / rate
    return frame


def _write_gif(
    path: Path, pictures: Iterable[Picture], size: tuple[int, int], rate: Fraction, encoding: Encoding, infotext: str
) -> None:
    """In two passes, so that one palette is made of all pictures; between them they lie on the disk without loss."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".gif-") as folder:
        spool, bare = Path(folder) / "frames.mkv", Path(folder) / "bare.gif"
        with _container(spool, "matroska") as container:
            lossless = {"qp": "0", "preset": "ultrafast"}
            stream = _add_stream(container, "libx264rgb", "rgb24", size, rate, lossless)
            for index, picture in enumerate(pictures):
                container.mux(stream.encode(_frame(picture, index, rate)))
            container.mux(stream.encode(None))
        palette = _palette(spool)
        with _container(bare, "gif", loop=str(encoding.loop)) as container:
            _encode_with_palette(container, spool, palette, rate)
        with bare.open("rb") as source, path.open("wb") as target:
            head = source.read(13)
            target.write(head)
            if head[10] & 0x80:
                target.write(source.read(3 * 2 ** ((head[10] & 7) + 1)))
            if infotext:
                target.write(_gif_comment(infotext))
            shutil.copyfileobj(source, target)


def _palette(spool: Path) -> VideoFrame:
    graph = Graph()
    with av.open(str(spool)) as source:
        stream = source.streams.video[0]
        entry, maker, end = graph.add_buffer(template=stream), graph.add("palettegen"), graph.add("buffersink")
        entry.link_to(maker)
        maker.link_to(end)
        graph.configure()
        for frame in source.decode(stream):
            entry.push(frame)
        entry.push(None)
        palette = end.pull()
    assert isinstance(palette, VideoFrame)
    return palette


def _encode_with_palette(container: OutputContainer, spool: Path, palette: VideoFrame, rate: Fraction) -> None:
    graph = Graph()
    with av.open(str(spool)) as source:
        stream = source.streams.video[0]
        target = _add_stream(container, "gif", "pal8", (stream.width, stream.height), rate)
        entry = graph.add_buffer(template=stream)
        colours = graph.add_buffer(
            width=palette.width, height=palette.height, format=palette.format, time_base=Fraction(1, 100)
        )
        mapper, end = graph.add("paletteuse", "dither=sierra2_4a:diff_mode=rectangle"), graph.add("buffersink")
        entry.link_to(mapper, 0, 0)
        colours.link_to(mapper, 0, 1)
        mapper.link_to(end)
        graph.configure()
        palette.pts = 0
        colours.push(palette)
        colours.push(None)
        shown = 0

        def encode_ready() -> None:
            nonlocal shown
            while True:
                try:
                    mapped: Any = end.pull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    return
                mapped.pts, mapped.time_base = shown, 1 / rate
                shown += 1
                container.mux(target.encode(mapped))

        for frame in source.decode(stream):
            entry.push(frame)
            encode_ready()
        entry.push(None)
        encode_ready()
        container.mux(target.encode(None))


def _gif_comment(text: str) -> bytes:
    """A comment extension. Source: GIF89a specification, section 24."""
    data = text.encode("utf-8", "replace")
    blocks = (data[start : start + 255] for start in range(0, len(data), 255))
    return b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def _write_webp(
    path: Path, pictures: Iterable[Picture], size: tuple[int, int], rate: Fraction, encoding: Encoding, infotext: str
) -> None:
    with _container(path, "webp", loop=str(encoding.loop)) as container:
        options = {"quality": str(encoding.quality), "lossless": str(int(encoding.lossless))}
        stream = _add_stream(container, "libwebp_anim", "bgra", size, rate, options)
        for index, picture in enumerate(pictures):
            container.mux(stream.encode(_frame(picture, index, rate).reformat(format="bgra")))
        container.mux(stream.encode(None))
    if infotext:
        _add_exif(path, text_exif(infotext, {}))


def _add_exif(path: Path, exif: bytes) -> None:
    """Append an EXIF chunk to a WebP file. Source: RFC 9649, sections 2.3 to 2.7."""
    exif = exif.removeprefix(b"Exif\0\0")
    with path.open("r+b") as file:
        head = file.read(30)
        assert head[12:16] == b"VP8X", head[:16]  # an animation has it
        file.seek(20)
        file.write(bytes([head[20] | 0x08]))
        file.seek(0, 2)
        file.write(b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))
