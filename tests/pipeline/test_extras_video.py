"""Videos through the job of the Extras tab: every frame, the rate, the length and the sound."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.video.clips import moving_square, sound_seconds, write_clip
from webui.core.choices import ExtrasStep
from webui.core.errors import InvalidRequest
from webui.core.extras import ExtrasRequest, PictureSource
from webui.core.flags import parse_flags
from webui.core.pictures import encode_image
from webui.core.request import GenerationResult
from webui.core.stored import KeptFile
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.extras import run
from webui.planning.extras import make_extras_plan
from webui.services.building import build_services
from webui.video import open_video, read_texts


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    flags, _ = parse_flags(["--data-dir", str(tmp_path_factory.mktemp("data")), "--device", "cpu"], {})
    services = build_services(flags)
    yield build(services)
    services.checkpoints.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve grey frames whose number can be read from their brightness."""
    frames = (np.full((48, 64, 3), 20 + 15 * number, np.uint8) for number in range(12))
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames, 24, sound="aac", seconds=0.5)


def number_of(picture: np.ndarray) -> int:
    return round((float(picture.mean()) - 20) / 15)


def worked_on(
    engine: Engine, *sources: PictureSource, job: JobContext | None = None, **values: Any
) -> GenerationResult:
    request = ExtrasRequest(**{"sources": sources, "upscaler_1": "Lanczos", "scale": 2.0, **values})
    plan = make_extras_plan(request, engine.settings.snapshot(), engine.choices)
    return run(engine, plan, job or JobContext.alone())


def frames_of(path: str | None) -> list[np.ndarray]:
    return [np.asarray(frame.picture) for frame in open_video(Path(str(path))).frames()]


@pytest.mark.parametrize("format", ["mp4", "webm", "gif"])
def test_a_film_has_the_videos_frames_rate_and_sound(engine: Engine, clip: Path, tmp_path: Path, format: str) -> None:
    source = PictureSource("clip.mp4", path=clip)
    result = worked_on(engine, source, keep_names=True, output=tmp_path, video_format=format)
    assert result.images == ()
    (film,) = result.files
    assert (film.role, film.width, film.height, Path(str(film.path)).name) == ("video", 128, 96, f"clip.{format}")
    assert film.infotext == "Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos"
    assert [number_of(frame) for frame in frames_of(film.path)] == list(range(12))
    video = open_video(Path(str(film.path)))
    assert abs(video.duration - Fraction(1, 2)) < Fraction(1, 20)
    assert sound_seconds(Path(str(film.path))) == pytest.approx(0 if format == "gif" else 0.5, abs=0.1)
    assert read_texts(Path(str(film.path)))[0] == film.infotext


def by(count: int, items: list[Any]) -> list[list[Any]]:
    return [items[start : start + count] for start in range(0, len(items), count)]


@pytest.mark.parametrize(("frames", "slower"), [(2, 1), (3, 1), (4, 2), (1, 2)])
def test_frames_between_and_slow_motion(engine: Engine, tmp_path: Path, frames: int, slower: int) -> None:
    """The square moves three pixels a frame, so that its middle tells where between two of them a frame lies."""
    clip = write_clip(tmp_path / "moving.mp4", moving_square(6), 24, sound="aac", seconds=0.25)
    source = PictureSource("moving.mp4", path=clip)
    asked = {"scale": 1.0, "frames": frames, "slower": slower, "output": tmp_path / "made"}
    (film,) = worked_on(engine, source, **asked).files
    own, shown = frames_of(str(clip)), frames_of(film.path)
    assert len(shown) == 6 * frames
    for number, group in enumerate(by(frames, shown)):
        far = [[np.abs(frame.astype(int) - one).mean() for one in own] for frame in group]
        assert np.argmin(far[0]) == number
        ways = [distances[number] for distances in far]
        assert number == 5 or ways == sorted(set(ways))
    video = open_video(Path(str(film.path)))
    assert video.rate == Fraction(24 * frames, slower)
    assert abs(video.duration - Fraction(slower, 4)) < Fraction(1, 50)
    assert sound_seconds(Path(str(film.path))) == pytest.approx(0.25 if slower == 1 else 0, abs=0.1)
    assert ("Slow motion: 2" in film.infotext) == (slower == 2)
    assert (f"Frames between: {frames - 1} by Optical flow" in film.infotext) == (frames > 1)


def test_rife_without_weights_and_wishes_without_effect_are_told(engine: Engine, clip: Path, tmp_path: Path) -> None:
    source = PictureSource("clip.mp4", path=clip)
    with pytest.raises(InvalidRequest, match=r"^RIFE v4\.6 has no weights here yet: .*MIT"):
        worked_on(engine, source, frames=2, frame_engine="RIFE v4.6", output=tmp_path)
    picture = PictureSource("cat.png", encode_image(Image.new("RGB", (8, 8)), "png", None))
    result = worked_on(engine, picture, frame_engine="RIFE v4.6", slower=2)
    assert result.comments == (
        "Frames between and slow motion have an effect on videos alone.",
        "RIFE v4.6 has no effect without frames between.",
    )


def test_the_frames_are_cut_to_a_size_and_older_films_stay(engine: Engine, clip: Path, tmp_path: Path) -> None:
    source = PictureSource("clip.mp4", upload=KeptFile(clip))
    to = {"resize_mode": 1, "width": 40, "height": 40, "keep_names": True, "output": tmp_path}
    paths = [worked_on(engine, source, **to).files[0].path for _ in range(2)]
    assert [Path(str(path)).name for path in paths] == ["clip.mp4", "clip-1.mp4"]
    assert frames_of(paths[1])[0].shape == (40, 40, 3)
    folder = engine.paths.data / "outputs" / "extras-images"
    numbers = [int(file.stem) for file in folder.glob("*.*") if file.stem.isdecimal()]
    numbered_film = worked_on(engine, source).files[0]
    assert Path(str(numbered_film.path)) == folder / f"{max(numbers, default=-1) + 1:05}.mp4"


def test_a_video_in_its_own_folder_is_not_written_over(engine: Engine, clip: Path, tmp_path: Path) -> None:
    own = tmp_path / "clip.mp4"
    own.write_bytes(clip.read_bytes())
    result = worked_on(engine, PictureSource("clip.mp4", path=own), keep_names=True, output=tmp_path)
    assert Path(str(result.files[0].path)).name == "clip-1.mp4"
    assert own.read_bytes() == clip.read_bytes()


def test_one_that_cannot_be_read_is_told_and_the_others_are_made(engine: Engine, clip: Path, tmp_path: Path) -> None:
    cut, text = tmp_path / "cut.mp4", tmp_path / "text.mkv"
    cut.write_bytes(clip.read_bytes()[:700])
    text.write_text("no video")
    picture = PictureSource("cat.png", encode_image(Image.new("RGB", (8, 8)), "png", None))
    files = [cut, text, tmp_path / "gone.webm", clip]
    sources = [picture, *(PictureSource(file.name, path=file) for file in files)]
    result = worked_on(engine, *sources, keep_names=True, output=tmp_path / "out")
    assert (len(result.images), len(result.files)) == (1, 1)
    assert [comment.split(":")[0] for comment in result.comments] == ["cut.mp4", "text.mkv", "gone.webm"]
    assert not [file for file in (tmp_path / "out").iterdir() if file.suffix not in (".png", ".mp4")]
    with pytest.raises(InvalidRequest):
        worked_on(engine, sources[1])


class Stopping(JobContext):
    """Interrupted once so many frames were shown."""

    shown = 0
    most = 5

    def show(self, data: bytes, mime: str) -> None:
        super().show(data, mime)
        self.shown += 1
        if self.shown == self.most:
            self._publish(interrupted=True)


def test_an_interrupted_film_ends_with_the_frames_that_are_done(engine: Engine, clip: Path, tmp_path: Path) -> None:
    result = worked_on(engine, PictureSource("clip.mp4", path=clip), job=Stopping.alone(), output=tmp_path)
    (film,) = result.files
    assert [number_of(frame) for frame in frames_of(film.path)] == list(range(5))
    assert result.comments == ("clip.mp4: the film ends after 5 of 12 frames, where the job was stopped.",)


def test_operations_for_pictures_are_left_out_of_videos(engine: Engine, clip: Path, tmp_path: Path) -> None:
    group = next(step.params for step in engine.choices.all(ExtrasStep) if step.name == "Create flipped copies")
    assert group is not None
    extensions = {group.__name__: group(enabled=True)}
    result = worked_on(engine, PictureSource("clip.mp4", path=clip), output=tmp_path, extensions=extensions)
    assert result.comments == ("clip.mp4: Create flipped copies is for pictures and was left out of the video.",)
    assert len(frames_of(result.files[0].path)) == 12
