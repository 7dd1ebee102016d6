"""Reading videos: rates, turned and stretched pictures, damaged and hostile files, bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.video.clips import moving_square, number_of, numbered, turn, write_clip
from webui.core.errors import InvalidRequest
from webui.video import Budget, open_video


@pytest.mark.parametrize("rate", [24, 25, 29.97, 30, 60])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_frames_and_times(tmp_path: Path, rate: float, ending: str) -> None:
    video = open_video(write_clip(tmp_path / f"clip.{ending}", numbered(13), rate))
    exact = Fraction(30000, 1001) if rate == 29.97 else Fraction(rate)
    assert (video.count, video.rate, video.is_constant) == (13, exact, True)
    assert video.duration == 13 / exact
    frames = list(video.frames())
    assert [number_of(frame.picture) for frame in frames] == list(range(13))
    assert [frame.time for frame in frames] == [number / exact for number in range(13)]


@pytest.mark.parametrize(
    ("ending", "codec"), [("webm", "libvpx-vp9"), ("avi", "ffv1"), ("avi", "mpeg4"), ("mkv", "mpeg4")]
)
def test_other_containers(tmp_path: Path, ending: str, codec: str) -> None:
    video = open_video(write_clip(tmp_path / f"clip.{ending}", numbered(9), 12, codec))
    assert (video.count, video.rate) == (9, 12)
    assert [number_of(frame.picture) for frame in video.frames()] == list(range(9))


def test_reading_from_any_frame(tmp_path: Path) -> None:
    video = open_video(write_clip(tmp_path / "clip.mp4", numbered(60), 30))
    for first in (0, 1, 29, 58, 59):
        frame = next(video.frames(first))
        assert (frame.number, number_of(frame.picture)) == (first, first)
    assert [number_of(frame.picture) for frame in video.selected([3, 3, 7, 50, 50, 51])] == [3, 3, 7, 50, 50, 51]


def test_a_varying_rate_is_mapped_by_time(tmp_path: Path) -> None:
    times = [Fraction(number, 30) for number in range(10)] + [Fraction(1, 3) + Fraction(n, 10) for n in range(10)]
    video = open_video(write_clip(tmp_path / "clip.mkv", numbered(20), 30, times=times))
    assert not video.is_constant
    assert video.count == 20
    assert abs(video.duration - Fraction(4, 3)) < Fraction(1, 10)
    shown = video.resampled(30)
    assert len(shown) == round(video.duration * 30)
    assert shown[:10] == list(range(10))
    assert shown[10:19] == [10] * 3 + [11] * 3 + [12] * 3


def test_animations(tmp_path: Path) -> None:
    pictures = [Image.fromarray(picture) for picture in numbered(5)]
    for name in ("clip.gif", "clip.webp"):
        options = {"save_all": True, "append_images": pictures[1:], "duration": 100, "lossless": True}
        pictures[0].save(tmp_path / name, **options)
        video = open_video(tmp_path / name)
        assert (video.count, video.rate, video.duration) == (5, 10, Fraction(1, 2)), name
        assert [number_of(frame.picture) for frame in video.frames()] == list(range(5)), name
        assert [number_of(frame.picture) for frame in video.frames(3)] == [3, 4], name


def test_an_animation_of_varying_times(tmp_path: Path) -> None:
    pictures = [Image.fromarray(picture) for picture in numbered(3)]
    for name in ("clip.gif", "clip.webp"):
        pictures[0].save(
            tmp_path / name, save_all=True, append_images=pictures[1:], duration=[100, 500, 400], lossless=True
        )
        video = open_video(tmp_path / name)
        assert video.duration == 1, name
        assert video.resampled(10) == [0] + [1] * 5 + [2] * 4, name


def test_a_folder_of_pictures_in_natural_order(tmp_path: Path) -> None:
    for number, picture in enumerate(numbered(12)):
        Image.fromarray(picture).save(tmp_path / f"frame {number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    video = open_video(tmp_path, 24)
    assert (video.count, video.rate, video.duration) == (12, 24, Fraction(1, 2))
    assert [number_of(frame.picture) for frame in video.frames()] == list(range(12))


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
        ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    ],
    ids=["clockwise", "counterclockwise", "half", "mirrored"],
)
def test_a_turned_video_is_upright(tmp_path: Path, matrix: tuple[int, int, int, int], turned: object) -> None:
    path = turn(write_clip(tmp_path / "phone.mp4", moving_square(2), 30), matrix)
    video = open_video(path)
    plain = next(iter(moving_square(1)))
    wanted = turned(plain)  # type: ignore[operator]
    assert (video.height, video.width) == wanted.shape[:2]
    shown = next(video.frames()).picture
    assert np.abs(shown.astype(int) - wanted).mean() < 6
    assert np.abs(np.rot90(shown, 2).astype(int) - wanted).mean() > 20  # no other way round


def test_pixels_become_square(tmp_path: Path) -> None:
    video = open_video(write_clip(tmp_path / "wide.mp4", numbered(2, 64, 48), 30, ratio=Fraction(3, 2)))
    assert (video.width, video.height) == (96, 48)
    assert next(video.frames()).picture.shape == (48, 96, 3)


def test_odd_sizes(tmp_path: Path) -> None:
    video = open_video(write_clip(tmp_path / "odd.avi", numbered(2, 321, 181), 30, "ffv1", pixels="bgr0"))
    assert (video.width, video.height) == (321, 181)
    assert next(video.frames()).picture.shape == (181, 321, 3)


def test_colours(tmp_path: Path) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 220
    video = open_video(write_clip(tmp_path / "red.mp4", [red] * 3, 30))
    assert np.abs(next(video.frames()).picture.astype(int) - red).max() <= 6


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.mp4", numbered(20), 30).read_bytes()
    files = {
        "empty.mp4": b"",
        "text.mp4": b"this is a text" * 100,
        "noise.webm": os.urandom(5000),
        "cut.mp4": good[: len(good) // 2],
        "head.mkv": b"\x1a\x45\xdf\xa3" + b"\0" * 50,
        "list.mp4": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "concat.mp4": b"ffconcat version 1.0\nfile good.mp4\n",
        "cut.gif": b"GIF89a\x10\0\x10\0\x80\0\0",
        "cut.webp": b"RIFF\x20\0\0\0WEBPVP8X",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidRequest) as told:
            list(open_video(tmp_path / name).frames())
        assert len(str(told.value).splitlines()) == 1, name
    with pytest.raises(InvalidRequest, match="no video"):
        open_video(tmp_path / "missing.mp4")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidRequest, match="no pictures"):
        open_video(tmp_path / "folder")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "sound.avi"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0" * 16000)
    with pytest.raises(InvalidRequest):
        open_video(tmp_path / "sound.avi")


def test_damage_inside_costs_its_frames_alone(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", moving_square(30), 30, "mpeg4")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = os.urandom(400)
    path.write_bytes(data)
    video = open_video(path)
    assert len(list(video.frames())) >= 10
    assert len(list(video.selected(range(video.count)))) == video.count


def test_budgets_are_held_before_decoding(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", numbered(60), 30)
    with pytest.raises(InvalidRequest, match="60 frames; a video may have 50|51 frames; a video may have 50"):
        open_video(path, budget=Budget(frames=50))
    with pytest.raises(InvalidRequest, match="lasts 2 s; a video may last 1 s"):
        open_video(path, budget=Budget(seconds=1))
    with pytest.raises(InvalidRequest, match="GiB"):
        open_video(path, budget=Budget(bytes=100))
    huge = tmp_path / "huge.gif"
    small = tmp_path / "small.gif"
    Image.new("P", (8, 8)).save(small)
    data = bytearray(small.read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"  # 65535 x 65535 pixels in a few bytes
    huge.write_bytes(data)
    with pytest.raises(InvalidRequest, match="can be read"):
        open_video(huge)


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """2000 frames of 320x240 (460 MB) are read and written in less than 150 MB more than 20 frames take."""
    script = """
import resource, sys
from pathlib import Path
import numpy as np
from webui.video import Encoding, open_video, write_video
count, folder = int(sys.argv[1]), Path(sys.argv[2])
frames = (np.full((240, 320, 3), n % 250, np.uint8) for n in range(count))
write_video(folder / "long.mp4", frames, 30, Encoding(preset="ultrafast"))
video = open_video(folder / "long.mp4")
assert sum(1 for _ in video.frames()) == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    root = Path(__file__).parents[2]

    def peak(count: int) -> int:
        command = [sys.executable, "-c", script, str(count), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
        return int(done.stdout)

    assert peak(2000) - peak(20) < 150_000
