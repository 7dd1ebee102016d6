"""Small synthetic videos, with and without sound."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from webui.video import as_rate


def moving_square(count: int, width: int = 96, height: int = 64, step: int = 3) -> Iterator[Any]:
    """A textured square on a textured ground that moves `step` pixels a frame."""
    import cv2

    generator = np.random.default_rng(7)
    ground = cv2.GaussianBlur(generator.integers(0, 255, (height, width, 3), np.uint8), (0, 0), 2.5)
    ground = cv2.normalize(ground, None, 0, 255, cv2.NORM_MINMAX)
    square = cv2.GaussianBlur(generator.integers(0, 255, (24, 24, 3), np.uint8), (0, 0), 1.5)
    square = cv2.normalize(square, None, 0, 255, cv2.NORM_MINMAX)
    for number in range(count):
        frame = ground.copy()
        left = 4 + step * number
        right = min(left + 24, width)
        if left < width:
            frame[20:44, left:right] = square[:, : right - left]
        yield frame


def numbered(count: int, width: int = 64, height: int = 48) -> Iterator[Any]:
    """Grey frames whose number can be read from their brightness, at most 78 of them."""
    for number in range(count):
        yield np.full((height, width, 3), 20 + 3 * number, np.uint8)


def number_of(picture: Any) -> int:
    return round((float(picture.mean()) - 20) / 3)


def add_sine(container: Any, seconds: float, codec: str, rate: int = 44_100) -> Any:
    """Encoded sound packets of 440 Hz for a container that is being written; stereo."""
    stream = container.add_stream(codec, rate=rate)
    stream.layout = "stereo"
    samples = np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate).astype(np.float32) * 0.5
    fifo = av.AudioFifo()
    sound = np.stack([samples, samples])
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout="stereo")
    frame.rate = rate
    fifo.write(frame)
    stream.codec_context.open()
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=rate)
    packets, done = [], 0
    while fifo.samples:
        block = fifo.read(stream.codec_context.frame_size or 1024, partial=True)
        block.pts = done
        block.time_base = Fraction(1, rate)
        done += block.samples
        for part in resampler.resample(block):
            packets += stream.encode(part)
    return packets + stream.encode(None)


def write_clip(
    path: Path,
    frames: Any,
    rate: Any = 30,
    codec: str = "libx264",
    sound: str | None = None,
    times: list[Fraction] | None = None,
    ratio: Fraction | None = None,
    seconds: float = 2.0,
    pixels: str = "yuv420p",
) -> Path:
    """Written by FFmpeg directly, not by the code under test. times: of each frame, for a variable rate."""
    options = {"libx264": {"crf": "4", "preset": "ultrafast"}, "mpeg4": {"qmin": "1", "qmax": "2"}}.get(codec, {})
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=as_rate(rate), options=options)
        packets = add_sine(container, seconds, sound) if sound else []
        base = Fraction(1, 1000) if times else 1 / as_rate(rate)
        for number, picture in enumerate(frames):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pixels
                stream.codec_context.time_base = base
                if ratio:
                    stream.codec_context.sample_aspect_ratio = ratio
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round(times[number] / base) if times else number
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for packet in packets:
            container.mux(packet)
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a rotation into the head of an MP4's picture track. matrix: a, b, c, d as whole numbers."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = matrix
    for place, value in zip((0, 1, 3, 4), (a, b, c, d), strict=True):
        data[start + 4 * place : start + 4 * place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def sound_seconds(path: Path) -> float:
    """How long the sound of a video is, 0 for a silent one: decoded."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return 0.0
        stream = container.streams.audio[0]
        return sum(frame.samples for frame in container.decode(stream)) / stream.rate


def picture_seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return float(sum(1 for _ in container.decode(stream)) / stream.average_rate)
