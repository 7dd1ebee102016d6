"""mov2mov without a model: a stand-in makes the pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extensions.mov2mov.folder import WorkFolder
from extensions.mov2mov.frames import FrameSettings, Processed, film, make_frames
from extensions.mov2mov.parameters import Editor, Frames, Mov2Mov, Output, Temporal
from extensions.mov2mov.plan import FramePlan, frame_prompts, plan_frames, prompt_at, seed_at, with_key_frames
from tests.video.clips import moving_square, number_of, numbered, write_clip
from webui import video as kit
from webui.core.errors import InvalidRequest, NoSpace


def lighter(picture: Any, settings: FrameSettings) -> Processed:
    return Processed([np.minimum(picture.astype(int) + 10, 255).astype(np.uint8)], f"Seed: {settings.seed}")


def unchanged(picture: Any) -> Any:
    return picture


def run(
    root: Path,
    source: kit.Video,
    options: Mov2Mov = Mov2Mov(),  # noqa: B008
    process: Callable[..., Processed] = lighter,
    seed: int = 7,
    most: int | None = None,
    plan: FramePlan | None = None,
) -> tuple[WorkFolder, list[Any]]:
    plan = plan or plan_frames(source, options.frames)
    facts = {"made": list(plan.made), "seed": seed, "asked": options.model_dump(mode="json")}
    folder = WorkFolder.latest(root, facts["asked"]) or WorkFolder.begin(root, "clip", facts)  # type: ignore[arg-type]
    made = make_frames(source, plan, options, folder, process, unchanged, "a cat", frame_prompts(options.prompts))
    done = []
    for frame in made:
        done.append(frame)
        if most is not None and len(done) == most:
            break
    return folder, done


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> kit.Video:
    return kit.open_video(write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", numbered(30), 30))


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> kit.Video:
    return kit.open_video(write_clip(tmp_path_factory.mktemp("clips") / "moving.mp4", moving_square(9), 30))


@pytest.mark.parametrize("rate", [24, 25, 29.97, 30, 60])
@pytest.mark.parametrize("wanted", [10, 20, 24, 30])
def test_the_film_lasts_as_long_as_the_video(tmp_path: Path, rate: float, wanted: float) -> None:
    source = kit.open_video(write_clip(tmp_path / "clip.mp4", numbered(30), rate))
    options = Mov2Mov(frames=Frames(keep_source_fps=False, movie_fps=wanted))
    plan = plan_frames(source, options.frames)
    assert list(plan.shown) == kit.resampled(30, rate, wanted)
    folder, done = run(tmp_path, source, options)
    assert len(done) == len(set(plan.shown))  # each frame is diffused once
    pictures = [number_of(picture.astype(int) - 10) for picture in film(source, plan, options, folder, unchanged)]
    assert pictures == list(plan.shown)
    assert abs(plan.duration - source.duration) <= Fraction(1, 2) / plan.rate


def test_the_rate_of_the_source_is_kept_by_default(tmp_path: Path) -> None:
    source = kit.open_video(write_clip(tmp_path / "clip.mp4", numbered(10), 29.97))
    plan = plan_frames(source, Frames())
    assert (plan.rate, plan.shown) == (Fraction(30000, 1001), tuple(range(10)))


@pytest.mark.parametrize(
    ("frames", "shown"),
    [
        (Frames(start=0.5), range(15, 30)),
        (Frames(start=0.2, end=0.4), range(6, 12)),
        (Frames(max_frames=4), range(4)),
        (Frames(every_nth=3, max_frames=7), [0, 0, 0, 3, 3, 3, 6]),
        (Frames(start=0.5, keep_source_fps=False, movie_fps=10), [16, 19, 22, 25, 28]),
    ],
)
def test_parts_of_a_video(clip: kit.Video, frames: Frames, shown: Any) -> None:
    assert plan_frames(clip, frames).shown == tuple(shown)


def test_empty_parts_are_told(clip: kit.Video) -> None:
    for frames in (Frames(start=2), Frames(start=0.5, end=0.2), Frames(max_frames=0)):
        with pytest.raises(InvalidRequest):
            plan_frames(clip, frames)


@pytest.mark.parametrize(
    ("rate", "asked", "kept", "seconds"),
    [(30, 30, 300, 10), (30, 24, 300, 12.5), (30, 20, 300, 15), (30, 15, 150, 10), (60, 24, 300, 12.5),
     (25, 30, 250, 25 / 3), (24, 10, 120, 12)],
)  # fmt: skip
def test_the_original_choice_of_frames(rate: int, asked: int, kept: int, seconds: float) -> None:
    source = kit.Video(Path("clip.mp4"), 8, 8, Fraction(rate), range(10 * rate), Fraction(1, rate), Fraction(10))
    plan = plan_frames(source, Frames(keep_source_fps=False, movie_fps=asked, legacy_skip=True))
    assert len(plan.shown) == kept
    assert float(plan.duration) == pytest.approx(seconds)


@pytest.mark.parity
def test_recorded_choices_of_frames(parity: Path) -> None:
    recorded = parity / "mov2mov"
    if not recorded.is_dir():
        pytest.skip("the recordings of mov2mov are not there")
    cases = json.loads((recorded / "manifest.json").read_text())
    assert cases
    for name, case in cases.items():
        source = kit.open_video(recorded / case["video"])
        assert (source.rate, source.count) == (8, 12)
        wanted = {"movie_fps": case["movie_frames"], "max_frames": case["max_frames"]}
        plan = plan_frames(source, Frames(keep_source_fps=False, legacy_skip=True, **wanted))
        assert list(plan.made) == case["frames_used"], name


def test_what_reaches_the_processor(tmp_path: Path, clip: kit.Video) -> None:
    seen: list[FrameSettings] = []

    def watching(picture: Any, settings: FrameSettings) -> Processed:
        assert number_of(picture) == settings.number
        seen.append(settings)
        return Processed([picture, np.zeros_like(picture)])  # a control map after it

    options = Mov2Mov(noise_multiplier=0.5, prompts="1: in spring\n11: in autumn", frames=Frames(every_nth=5))
    folder, _ = run(tmp_path, clip, options, watching)
    assert [settings.number for settings in seen] == [0, 5, 10, 15, 20, 25]
    assert {settings.seed for settings in seen} == {7}
    assert {settings.noise_multiplier for settings in seen} == {0.5}
    assert [settings.prompt for settings in seen] == ["a cat, in spring"] * 2 + ["a cat, in autumn"] * 4
    assert [number_of(folder.load(index)) for index in range(6)] == [0, 5, 10, 15, 20, 25]  # the first picture is kept


def test_seeds() -> None:
    assert [seed_at(index, 10, "fixed") for index in range(4)] == [10] * 4
    assert [seed_at(index, 10, "increment") for index in range(4)] == [10, 11, 12, 13]
    assert [seed_at(index, 100, "ladder") for index in range(8)] == [100, 102, 101, 103, 102, 104, 103, 105]


def test_prompts_of_frames() -> None:
    prompts = frame_prompts("3: snow\n\n 10:rain, wind")
    assert prompts == {2: "snow", 9: "rain, wind"}
    assert [prompt_at(place, "a cat", prompts) for place in (0, 2, 8, 9)] == [
        "a cat", "a cat, snow", "a cat, snow", "a cat, rain, wind",
    ]  # fmt: skip
    for bad in ("snow", "0: snow", "-1: snow"):
        with pytest.raises(InvalidRequest, match="12: a text"):
            frame_prompts(bad)


def test_interrupted_twice_and_gone_on_with(tmp_path: Path, moving: kit.Video) -> None:
    """With everything on that frames take over from earlier ones, the frames equal those of an undisturbed run."""
    options = Mov2Mov(temporal=Temporal(previous_mix=0.5, colour_match="First result", seed_behaviour="increment"))
    whole, _ = run(tmp_path / "whole", moving, options)
    calls: list[int] = []

    def counting(picture: Any, settings: FrameSettings) -> Processed:
        calls.append(settings.index)
        return lighter(picture, settings)

    parts, done = run(tmp_path / "parts", moving, options, counting, most=3)
    assert len(done) == 3
    plan = plan_frames(moving, options.frames)
    assert len(list(film(moving, plan, options, parts, unchanged))) == 3  # stitching what there is
    run(tmp_path / "parts", moving, options, counting, most=2)
    again, _ = run(tmp_path / "parts", moving, options, counting)
    assert again.path == parts.path
    assert calls == list(range(9))
    for index in range(9):
        assert np.array_equal(whole.load(index), again.load(index))
        assert whole.infotext(index) == again.infotext(index) == f"Seed: {7 + index}"


def test_another_setting_starts_a_new_folder(tmp_path: Path, clip: kit.Video) -> None:
    first, _ = run(tmp_path, clip, most=2)
    other, _ = run(tmp_path, clip, Mov2Mov(noise_multiplier=0.9), most=2)
    same, _ = run(tmp_path, clip)
    assert first.path == same.path != other.path
    finished, _ = run(tmp_path, clip, most=1)
    assert finished.path != first.path  # a finished run is not gone on with


def test_the_same_settings_give_the_same_bytes(tmp_path: Path, moving: kit.Video) -> None:
    folders = [run(tmp_path / name, moving)[0] for name in ("one", "two")]
    files = [[path.read_bytes() for path in sorted(folder.path.glob("*.png"))] for folder in folders]
    assert len(files[0]) == 9
    assert files[0] == files[1]


def test_a_frame_that_fails_twice_is_the_sources_and_told(tmp_path: Path, clip: kit.Video) -> None:
    calls: list[int] = []

    def failing(picture: Any, settings: FrameSettings) -> Processed:
        calls.append(settings.index)
        if settings.index == 2 or (settings.index == 1 and calls.count(1) == 1):
            raise RuntimeError("the device is lost")
        return lighter(picture, settings)

    folder, done = run(tmp_path, clip, Mov2Mov(frames=Frames(max_frames=4)), failing)
    assert calls == [0, 1, 1, 2, 2, 3]
    assert [frame.failure for frame in done] == ["", "", "RuntimeError: the device is lost", ""]
    assert number_of(folder.load(2)) == 2
    assert WorkFolder(folder.path).facts["failed"] == {"3": "RuntimeError: the device is lost"}


def test_what_the_user_can_mend_ends_the_run_and_keeps_the_frames(tmp_path: Path, clip: kit.Video) -> None:
    def full(picture: Any, settings: FrameSettings) -> Processed:
        if settings.index == 2:
            raise NoSpace("The disk is full.")
        return lighter(picture, settings)

    with pytest.raises(NoSpace):
        run(tmp_path, clip, process=full)
    folder, done = run(tmp_path, clip, process=lighter)
    assert len(done) == 28


def test_a_still_scene_returns_the_first_result(tmp_path: Path) -> None:
    """Previous frame mix 1 and nothing diffused: whatever the first frame became stays."""
    picture = next(iter(moving_square(1)))
    source = kit.open_video(write_clip(tmp_path / "still.avi", [picture] * 5, 10, "ffv1", pixels="bgr0"))

    def once(given: Any, settings: FrameSettings) -> Processed:
        return Processed([255 - given if settings.index == 0 else given])

    folder, _ = run(tmp_path, source, Mov2Mov(temporal=Temporal(previous_mix=1)), once)
    for index in range(5):
        assert np.array_equal(folder.load(index), 255 - picture)


def restless(picture: Any, settings: FrameSettings) -> Processed:
    """A processor whose brightness and pixels change from frame to frame."""
    generator = np.random.default_rng(settings.index)
    gain = 1 + 0.12 * (-1) ** settings.index
    noise = generator.normal(0, 8, picture.shape)
    return Processed([np.clip(picture * gain * 0.8 + noise, 0, 255).astype(np.uint8)])


def half_kept(picture: Any, settings: FrameSettings) -> Processed:
    """Diffusion with denoising strength: what it is given shines through."""
    made = restless(picture, settings).pictures[0]
    return Processed([((picture.astype(int) + made) // 2).astype(np.uint8)])


@pytest.mark.parametrize(
    ("temporal", "process"),
    [
        (Temporal(previous_mix=0.6), half_kept),
        (Temporal(colour_match="First result"), restless),
        (Temporal(colour_match="Source frame"), restless),
        (Temporal(colour_match="First result", colour_method="Histogram"), restless),
        (Temporal(deflicker=True), restless),
    ],
    ids=["mix", "first result", "source", "histogram", "deflicker"],
)
def test_what_calms_the_picture(tmp_path: Path, moving: kit.Video, temporal: Temporal, process: Any) -> None:
    def measure(options: Mov2Mov, name: str) -> float:
        folder, _ = run(tmp_path / name, moving, options, process)
        results = film(moving, plan_frames(moving, options.frames), options, folder, unchanged)
        return kit.flicker(results, (frame.picture for frame in moving.frames()))

    assert measure(Mov2Mov(temporal=temporal), "calm") < 0.9 * measure(Mov2Mov(), "plain")


@pytest.mark.parametrize("reset", [True, False])
def test_scene_cuts_end_what_is_taken_over(tmp_path: Path, reset: bool) -> None:
    scenes = [np.full((48, 64, 3), 40, np.uint8)] * 3 + [np.full((48, 64, 3), 200, np.uint8)] * 3
    source = kit.open_video(write_clip(tmp_path / "scenes.avi", scenes, 10, "ffv1", pixels="bgr0"))
    temporal = Temporal(previous_mix=1, colour_match="First result", reset_at_cuts=reset)
    folder, _ = run(tmp_path, source, Mov2Mov(temporal=temporal), lambda given, settings: Processed([given]))
    assert folder.load(2).mean() == 40
    assert folder.load(3).mean() == (200 if reset else 40)


def test_key_frames_alone_are_diffused(tmp_path: Path, moving: kit.Video) -> None:
    editor = Editor(enable=True, interval=4)
    plan = with_key_frames(plan_frames(moving, Frames()), editor, [6], cuts=[])
    assert plan.made == (0, 4, 6, 8)

    def inverted(picture: Any, settings: FrameSettings) -> Processed:
        return Processed([255 - picture])

    options = Mov2Mov(editor=editor)
    folder, done = run(tmp_path, moving, options, inverted, plan=plan)
    assert len(done) == 4
    made = list(film(moving, plan, options, folder, unchanged))
    assert len(made) == 9
    for picture, frame in zip(made, moving.frames(), strict=True):
        apart = np.abs(picture.astype(int) - (255 - frame.picture)).mean()
        assert apart < 6, frame.number  # as if each had been diffused; the nearest key alone is 10 to 20 away


def test_keys_begin_and_end_late(tmp_path: Path, moving: kit.Video) -> None:
    """Frames before the first and after the last key come from that one."""
    plan = with_key_frames(plan_frames(moving, Frames()), Editor(enable=True, interval=0), [3, 5], cuts=[])
    folder, _ = run(tmp_path, moving, Mov2Mov(), lighter, plan=plan)
    assert len(list(film(moving, plan, Mov2Mov(), folder, unchanged))) == 9
    with pytest.raises(InvalidRequest, match="no key frames"):
        with_key_frames(plan_frames(moving, Frames()), Editor(enable=True, interval=0, at_cuts=False), [], cuts=[])


def test_key_frames_do_not_reach_across_a_cut(tmp_path: Path) -> None:
    scenes = [np.full((48, 64, 3), 40, np.uint8)] * 4 + [np.full((48, 64, 3), 200, np.uint8)] * 4
    source = kit.open_video(write_clip(tmp_path / "scenes.avi", scenes, 10, "ffv1", pixels="bgr0"))
    cuts = list(kit.scene_cuts(frame.picture for frame in source.frames()))
    assert cuts == [4]
    plan = with_key_frames(plan_frames(source, Frames()), Editor(enable=True, interval=6), [], cuts)
    assert plan.made == (0, 4, 6)
    folder, _ = run(tmp_path, source, Mov2Mov(), lighter, plan=plan)
    levels = [picture.mean() for picture in film(source, plan, Mov2Mov(), folder, unchanged)]
    assert levels == [50] * 4 + [210] * 4


def test_every_parameter_has_the_sheets_default() -> None:
    options = Mov2Mov()
    assert (options.noise_multiplier, options.frames.movie_fps, options.frames.max_frames) == (1, 30, -1)
    assert (options.editor.enable, options.editor.interval) == (False, 2)
    assert (options.output.crf, options.output.preset, options.output.format) == (17, "medium", "mp4")
    assert options.output == Output()
