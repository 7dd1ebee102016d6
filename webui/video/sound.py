"""Sound beside pictures: copied as it is where the container takes it, else encoded again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.fifo import AudioFifo
from av.audio.resampler import AudioResampler
from av.container import OutputContainer
from av.packet import Packet

from webui.video.reading import Video, opened

COPIED = {"mp4": ("aac", "mp3", "opus"), "webm": ("opus", "vorbis")}
"""Codecs of sound that a container takes as they are, as browsers play them."""
ENCODED = {"mp4": ("aac", 192_000), "webm": ("libopus", 160_000)}
"""Codec and bits a second of what is encoded again."""
RATES = {"aac": (44_100, 48_000, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000), "libopus": (48_000,)}
_ENCODER_FRAME = 1024


@dataclass(frozen=True)
class Sound:
    """The sound of `path`, a video or a sound file, from second `start` on; duration: None for all there is."""

    path: Path
    start: Fraction = Fraction(0)
    duration: Fraction | None = None


def sound_of(video: Video, start: Fraction | float = 0, duration: Fraction | None = None) -> Sound | None:
    """The sound to the pictures of a video from its second `start` on; None for a silent one."""
    return Sound(video.path, video.origin + Fraction(start), duration) if video.has_sound else None


class SoundTrack:
    """Puts a sound into a container that is being written, as far as its pictures are. Closed by `close`."""

    def __init__(self, container: OutputContainer, format: str, sound: Sound) -> None:
        """sound: of a file that has some. Raises: InvalidRequest when it can't be read."""
        self._files = ExitStack()
        self._container, self._sound = container, sound
        self._packets: Iterator[tuple[Fraction, Packet]] = iter(())
        self._ahead: tuple[Fraction, Packet] | None = None
        source = self._files.enter_context(opened(sound.path))
        assert source.streams.audio, sound.path  # `require_writable` has looked
        stream = source.streams.audio[0]
        if sound.start > 0:
            source.seek(int(sound.start * av.time_base), backward=True)
        if stream.codec_context.name in COPIED[format]:
            target: Any = container.add_stream_from_template(stream)
            self._packets = self._copied(source, stream, target)
        else:
            codec, bits = ENCODED[format]
            rate = stream.rate if stream.rate in RATES[codec] else 48_000
            layout = "mono" if stream.codec_context.channels == 1 else "stereo"
            target = container.add_stream(codec, rate=rate)
            target.layout = layout
            target.bit_rate = bits
            self._packets = self._encoded(source, stream, target, layout, rate)

    def advance(self, seconds: Fraction) -> None:
        """Write what sounds before `seconds`; the pictures have come that far."""
        end = seconds if self._sound.duration is None else min(seconds, self._sound.duration)
        while True:
            if self._ahead is None:
                self._ahead = next(self._packets, None)
            if self._ahead is None or self._ahead[0] >= end:
                return
            self._container.mux(self._ahead[1])
            self._ahead = None

    def close(self) -> None:
        self._files.close()

    def _copied(self, source: Any, stream: Any, target: Any) -> Iterator[tuple[Fraction, Packet]]:
        """The packets, each with the second of its middle: what is nearer to the inside of a cut is kept."""
        shift = round(self._sound.start / stream.time_base)
        packets = source.demux(stream)
        for packet in _readable(packets):
            if packet.pts is None or not packet.size:
                continue
            middle = (packet.pts + Fraction(packet.duration or 0, 2)) * stream.time_base - self._sound.start
            if middle < 0:
                continue
            packet.pts -= shift
            packet.dts = packet.pts
            if packet.pts < 0:  # the half of it that lies before the cut
                packet.pts = packet.dts = 0
            packet.stream = target
            yield middle, packet

    def _encoded(
        self, source: Any, stream: Any, target: Any, layout: str, rate: int
    ) -> Iterator[tuple[Fraction, Packet]]:
        resampler = AudioResampler(format="fltp", layout=layout, rate=rate)
        fifo = AudioFifo()
        written = -1  # samples from the cut on; -1 until the first is known

        def packets(frame: Any) -> Iterator[tuple[Fraction, Packet]]:
            for packet in target.encode(frame):
                yield (Fraction(packet.pts or 0) + Fraction(packet.duration or 0, 2)) * packet.time_base, packet

        def drained(partial: bool) -> Iterator[tuple[Fraction, Packet]]:
            nonlocal written
            size = target.codec_context.frame_size or _ENCODER_FRAME
            while fifo.samples >= size or (partial and fifo.samples > 0):
                block = fifo.read(size, partial=partial)
                if block is None:
                    return
                block.pts, block.time_base = written, Fraction(1, rate)
                written += block.samples
                yield from packets(block)

        target.codec_context.open()
        for decoded in self._decoded(source, stream):
            begin = Fraction(decoded.pts or 0) * (decoded.time_base or stream.time_base) - self._sound.start
            for block in resampler.resample(decoded):
                block.pts = None
                fifo.write(block)
            if written < 0:
                cut = round(begin * rate)
                if cut < 0:
                    if fifo.samples <= -cut:
                        fifo = AudioFifo()
                        continue
                    fifo.read(-cut)
                written = max(cut, 0)
            yield from drained(partial=False)
        if written >= 0:
            for block in resampler.resample(None):
                block.pts = None
                fifo.write(block)
            yield from drained(partial=True)
            yield from packets(None)

    def _decoded(self, source: Any, stream: Any) -> Iterator[Any]:
        for packet in _readable(source.demux(stream)):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                continue  # a damaged piece


def _readable(packets: Iterator[Any]) -> Iterator[Any]:
    """Packets up to the end, or to where the file is cut off."""
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.error.FFmpegError):
            return
