"""Written videos: what browsers play, the infotext in each format, sound as long as the pictures, whole files only."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.video.clips import (
    moving_square,
    number_of,
    numbered,
    picture_seconds,
    sound_seconds,
    write_clip,
)
from webui.core.errors import InvalidRequest, NotSaved
from webui.core.pictures import read_infotext
from webui.video import Encoding, Sound, open_video, read_texts, sound_of, write_video

INFOTEXT = 'a cat, grün\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Seed: 1, mov2mov: "fps: 24, frame: 12"'


def test_mp4_is_what_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "out" / "film.mp4"
    written = write_video(path, numbered(13, 321, 181), 29.97, infotext=INFOTEXT)
    assert (written.count, written.width, written.height) == (13, 322, 182)
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", Fraction(30000, 1001))
        tags = context.color_range, context.color_primaries, context.color_trc, context.colorspace
        assert [int(tag) for tag in tags] == [1, 1, 1, 1]
        assert (stream.width, stream.height, stream.frames) == (322, 182, 13)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # it can be played while it loads
    video = open_video(path)
    assert [number_of(frame.picture) for frame in video.frames()] == list(range(13))
    assert read_texts(path)[0] == INFOTEXT
    assert list(path.parent.iterdir()) == [path]


def test_webm(tmp_path: Path) -> None:
    path = tmp_path / "film.webm"
    write_video(path, numbered(9), 25, Encoding("webm", crf=20), INFOTEXT)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "vp9"
    video = open_video(path)
    assert (video.count, video.rate) == (9, 25)
    assert [number_of(frame.picture) for frame in video.frames()] == list(range(9))
    assert read_texts(path)[0] == INFOTEXT


def test_gif_of_sixteen_frames_at_eight_a_second(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    write_video(path, moving_square(16), 8, Encoding("gif", loop=0), INFOTEXT)
    image = Image.open(path)
    assert (image.n_frames, image.info["loop"]) == (16, 0)
    times = []
    for number in range(16):
        image.seek(number)
        times.append(image.info["duration"])
    assert set(times) <= {120, 130}  # a GIF counts in hundredths
    assert abs(sum(times) - 2000) <= 10
    assert read_infotext(path.read_bytes())[0] == INFOTEXT
    for shown, drawn in zip(open_video(path).frames(), moving_square(16), strict=True):
        assert np.abs(shown.picture.astype(int) - drawn).mean() < 12


def test_a_gif_keeps_the_colours_of_all_frames(tmp_path: Path) -> None:
    """A palette made of the first frame alone would turn the later ones grey."""
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10)]
    path = tmp_path / "film.gif"
    write_video(path, (np.full((32, 32, 3), colour, np.uint8) for colour in colours), 4, Encoding("gif", loop=2))
    for shown, colour in zip(open_video(path).frames(), colours, strict=True):
        assert np.abs(shown.picture.astype(int) - colour).max() <= 8
    assert Image.open(path).info["loop"] == 2


@pytest.mark.parametrize("text", ["", INFOTEXT])
def test_animated_webp(tmp_path: Path, text: str) -> None:
    path = tmp_path / "film.webp"
    write_video(path, numbered(6, 65, 49), 20, Encoding("webp", loop=3, lossless=True), text)
    image = Image.open(path)
    assert (image.n_frames, image.info["loop"], image.size) == (6, 3, (65, 49))
    video = open_video(path)
    assert (video.rate, video.duration) == (20, Fraction(6, 20))
    assert [number_of(frame.picture) for frame in video.frames()] == list(range(6))
    assert read_infotext(path.read_bytes())[0] == (text or None)


def test_png_sequence(tmp_path: Path) -> None:
    write_video(tmp_path / "frames", numbered(3), 10, Encoding("png"), INFOTEXT)
    files = sorted((tmp_path / "frames").iterdir())
    assert [file.name for file in files] == ["000001.png", "000002.png", "000003.png"]
    assert read_infotext(files[1].read_bytes())[0] == INFOTEXT


@pytest.mark.parametrize("format", ["mp4", "webm", "webp", "gif", "png"])
def test_colours_are_not_swapped(tmp_path: Path, format: Any) -> None:
    picture = np.zeros((36, 50, 3), np.uint8)
    picture[:] = (210, 60, 20)
    path = tmp_path / f"film.{format}"
    write_video(path, [picture] * 3, 10, Encoding(format, crf=10))
    shown = next(open_video(path).frames()).picture
    assert np.abs(shown.astype(int) - picture).max() <= 6


def test_one_frame(tmp_path: Path) -> None:
    for format in ("mp4", "webm", "gif"):
        path = tmp_path / f"film.{format}"
        write_video(path, numbered(1), 5, Encoding(format))  # type: ignore[arg-type]
        assert len(list(open_video(path).frames())) == 1


def test_an_error_of_the_pictures_leaves_the_old_file(tmp_path: Path) -> None:
    def failing() -> Any:
        yield from numbered(3)
        raise RuntimeError("no more")

    for format in ("mp4", "gif", "webp"):
        path = tmp_path / f"film.{format}"
        path.write_bytes(b"old")
        with pytest.raises(RuntimeError, match="no more"):
            write_video(path, failing(), 10, Encoding(format))  # type: ignore[arg-type]
        assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 3


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no frames"):
        write_video(tmp_path / "film.mp4", [], 10)
    with pytest.raises(InvalidRequest, match="choose a lower rate"):
        write_video(tmp_path / "film.gif", numbered(2), 60, Encoding("gif"))
    with pytest.raises(InvalidRequest, match="preset"):
        Encoding(preset="warp")
    with pytest.raises(InvalidRequest, match="crf"):
        Encoding(crf=52)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotSaved):
        write_video(tmp_path / "file" / "film.mp4", numbered(2), 10)


@pytest.fixture(scope="module")
def sounding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", numbered(60), 30, sound="aac")


@pytest.fixture(scope="module")
def sounding_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    return write_clip(path, numbered(60), 30, sound="pcm_s16le")


@pytest.mark.parametrize("format", ["mp4", "webm"])
@pytest.mark.parametrize("wanted", [30, 20, 12])
@pytest.mark.parametrize("kind", ["sounding", "sounding_raw"])
@pytest.mark.parametrize(("start", "end"), [(0, None), (0.5, 1.5), (1, None), (0, 0.7)])
def test_sound_is_as_long_as_the_pictures(
    tmp_path: Path, request: pytest.FixtureRequest, format: Any, wanted: int, kind: str, start: float, end: float | None
) -> None:
    video = open_video(request.getfixturevalue(kind))
    shown = video.selected(video.resampled(wanted, start, end))
    path = tmp_path / f"film.{format}"
    encoding = Encoding(format, crf=40, preset="ultrafast")
    write_video(path, (frame.picture for frame in shown), wanted, encoding, sound=sound_of(video, start))
    length = (2 if end is None else end) - start
    assert abs(picture_seconds(path) - length) <= 0.5 / wanted
    assert abs(sound_seconds(path) - length) <= 1 / wanted
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        codec = sound.codec_context.name
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(sound)], axis=-1)
    assert codec == ("opus" if format == "webm" else "aac")
    middle = samples.reshape(2, -1)[0][samples.shape[-1] // 3 :][:8192]
    loudest = np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) * sound.rate / len(middle)
    assert abs(loudest - 440) < 12


def test_a_silent_source_stays_silent(tmp_path: Path) -> None:
    video = open_video(write_clip(tmp_path / "clip.mp4", numbered(5), 30))
    assert sound_of(video) is None
    write_video(tmp_path / "film.mp4", (frame.picture for frame in video.frames()), 30, sound=sound_of(video))
    assert sound_seconds(tmp_path / "film.mp4") == 0


def test_a_soundtrack_from_a_sound_file(tmp_path: Path) -> None:
    import wave

    rate = 22_050
    tone = (np.sin(np.arange(3 * rate) * 0.1) * 9000).astype("<i2")
    with wave.open(str(tmp_path / "music.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(tone.tobytes())
    sound = Sound(tmp_path / "music.wav", Fraction(1))
    write_video(tmp_path / "film.mp4", numbered(15), 10, Encoding(crf=40), sound=sound)
    assert abs(sound_seconds(tmp_path / "film.mp4") - 1.5) < 0.1
    silent = write_clip(tmp_path / "silent.mp4", numbered(2), 10)
    with pytest.raises(InvalidRequest, match="no sound"):
        write_video(tmp_path / "other.mp4", numbered(5), 10, sound=Sound(silent))
