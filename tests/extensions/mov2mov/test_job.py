"""The job with a small model: from clip to film, through the queue, interrupted, gone on with, and as recorded."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.recordings import lay_out
from tests.tiny import tiny_checkpoint
from tests.video.clips import moving_square, sound_seconds, write_clip
from webui.core.errors import InvalidRequest
from webui.core.flags import parse_flags
from webui.core.pictures import encode_image, read_infotext
from webui.core.request import FromImage, GenerationRequest
from webui.services.building import build_services
from webui.services.generation import submit_generation
from webui.services.services import Services
from webui.video import open_video, read_texts

REQUEST = GenerationRequest(
    prompt="a harbour", seed=5, steps=2, width=64, height=64, sampler="Euler a", image=FromImage(denoising_strength=0.6)
)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Services]]:
    data = tmp_path_factory.mktemp("data")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    built: list[Services] = []

    def build() -> Services:
        flags = ["--data-dir", str(data), "--no-half", "--precision", "full", "--device", "cpu", "--no-hashing"]
        built.append(build_services(parse_flags(flags, {})[0]))
        return built[-1]

    yield build
    for services in built:
        services.jobs.close(60)
        services.checkpoints.close()


@pytest.fixture(scope="module")
def services(build: Callable[[], Services]) -> Services:
    services = build()
    services.jobs.start()
    return services


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving_square(6), 6, sound="aac", seconds=1)


def kinds() -> Any:
    return next(
        module
        for name, module in list(sys.modules.items())  # the worker imports meanwhile
        if name.startswith("_extension_mov2mov") and name.endswith(".kinds")
    )


def film(services: Services, clip: Path, request: GenerationRequest = REQUEST, **options: Any) -> Any:
    job_id = submit(services, clip, request, **options)
    return services.jobs.result(job_id, timeout=240)


def submit(services: Services, clip: Path, request: GenerationRequest = REQUEST, **options: Any) -> str:
    asked = kinds().Film(request, kinds().Mov2Mov(**options), str(clip), clip.name)
    return services.jobs.submit(kinds().KIND, asked)


def frames_in(folder: str) -> list[Any]:
    return [np.array(Image.open(path).convert("RGB")) for path in sorted(Path(folder).glob("*.png"))]


def test_from_clip_to_film(services: Services, clip: Path) -> None:
    made = film(services, clip)
    assert (made.finished, made.total, made.comments) == (6, 6, ())
    (path,) = made.files
    assert Path(path).parent == services.paths.outputs / "mov2mov-videos"
    video = open_video(Path(path))
    assert (video.count, video.rate, video.width, video.height) == (6, 6, 64, 64)
    assert abs(sound_seconds(Path(path)) - 1) <= 1 / 6
    infotext = read_texts(Path(path))[0] or ""
    assert infotext.startswith("a harbour\nSteps: 2, Sampler: Euler a")
    assert 'mov2mov: "source: clip.mp4, frame: 1, fps: 6, max frames: -1, noise multiplier: 1"' in infotext
    third = (Path(made.folder) / "000003.png").read_bytes()
    assert "frame: 3" in (read_infotext(third)[0] or "")
    facts = json.loads((Path(made.folder) / "job.json").read_text())
    assert (facts["seed"], facts["made"]) == (5, [0, 1, 2, 3, 4, 5])


def test_each_frame_is_what_img2img_makes_of_it(services: Services, clip: Path) -> None:
    made = film(services, clip, noise_multiplier=0.9, resume=False)
    (_, second, *_) = (frame.picture for frame in open_video(clip).frames())
    image = FromImage(
        images=(encode_image(Image.fromarray(second), "png", None),), denoising_strength=0.6, noise_multiplier=0.9
    )
    alone = services.jobs.result(submit_generation(services, REQUEST.replace(image=image)), timeout=240)
    picture = np.array(Image.open(io.BytesIO(alone.images[0].data)).convert("RGB"))  # type: ignore[attr-defined]
    assert np.array_equal(frames_in(made.folder)[1], picture)


def test_a_random_seed_is_one_for_all_frames(services: Services, clip: Path) -> None:
    made = film(services, clip, REQUEST.replace(seed=-1), frames={"max_frames": 3})
    seeds = {
        (read_infotext(path.read_bytes())[0] or "").partition("Seed: ")[2].partition(",")[0]
        for path in Path(made.folder).glob("*.png")
    }
    assert len(seeds) == 1
    assert seeds != {"-1"}


def test_killed_twice_and_gone_on_with(build: Callable[[], Services], clip: Path) -> None:
    """The server goes down in the middle, twice; the frames equal an undisturbed run's."""
    options = {"temporal": {"previous_mix": 0.4, "colour_match": "First result"}, "noise_multiplier": 0.8}
    first = build()
    first.jobs.start()
    whole = film(first, clip, **options, resume=False)
    job_id = submit(first, clip, **options, resume=False)

    def stop_after(services: Services, frames: int) -> None:
        for _ in range(2000):
            folders = list((services.paths.outputs / "mov2mov-images").glob("clip-*"))
            newest = max(folders, key=lambda path: path.stat().st_mtime_ns)
            if str(newest) != whole.folder and len(list(newest.glob("*.png"))) >= frames:
                break
            time.sleep(0.02)
        assert services.jobs.close(60)

    stop_after(first, 2)
    second = build()
    second.jobs.start()
    stop_after(second, 4)
    third = build()
    third.jobs.start()
    made: Any = third.jobs.result(job_id, timeout=240)
    assert (made.finished, made.total) == (6, 6)
    assert made.folder != whole.folder
    for one, other in zip(frames_in(whole.folder), frames_in(made.folder), strict=True):
        assert np.array_equal(one, other)
    assert third.jobs.close(60)


def test_an_interrupted_run_becomes_a_film_and_is_gone_on_with(services: Services, clip: Path) -> None:
    job_id = submit(services, clip, noise_multiplier=0.7)
    while services.jobs.progress(job_id).preview is None:
        time.sleep(0.02)
    services.jobs.interrupt(job_id)
    part: Any = services.jobs.result(job_id, timeout=240)
    assert 1 <= part.finished < 6
    assert open_video(Path(part.files[0])).count == part.finished
    assert "go on" in part.message
    whole = film(services, clip, noise_multiplier=0.7)
    assert (whole.folder, whole.finished) == (part.folder, 6)


def test_what_exists_is_stitched(services: Services, clip: Path) -> None:
    """Also in another format, and of a finished run; nothing is diffused."""
    made = film(services, clip, prompts="1: snow")
    asked = kinds().Film(
        REQUEST, kinds().Mov2Mov(prompts="1: snow", output={"format": "gif"}), str(clip), clip.name, True
    )
    again: Any = services.jobs.result(services.jobs.submit(kinds().KIND, asked), timeout=240)
    assert (again.folder, again.finished) == (made.folder, 6)
    assert open_video(Path(again.files[0])).count == 6
    other = kinds().Film(REQUEST, kinds().Mov2Mov(prompts="1: fog"), str(clip), clip.name, True)
    with pytest.raises(InvalidRequest, match="has left frames"):
        services.jobs.result(services.jobs.submit(kinds().KIND, other), timeout=240)


@pytest.mark.parametrize(
    ("options", "ending"),
    [
        ({"output": {"format": "webm", "crf": 40}}, ".webm"),
        ({"output": {"format": "gif"}}, ".gif"),
        ({"editor": {"enable": True, "interval": 3}, "temporal": {"deflicker": True}}, ".mp4"),
        ({"size": {"enable": True, "scale": 0.5}, "output": {"sound": "None"}}, ".mp4"),
    ],
)
def test_other_ways(services: Services, clip: Path, options: Any, ending: str) -> None:
    made = film(services, clip, **options)
    path = Path(made.files[0])
    video = open_video(path)
    assert (path.suffix, video.count) == (ending, 6)
    if "size" in options:
        assert (video.width, video.height, video.has_sound) == (48, 32, False)
    if "editor" in options:
        assert made.total == 2


def write_masks(folder: Path, count: int) -> Path:
    """A white stripe that moves by 12 px a frame, half as large as the clip, whose sides are 96 and 64 px."""
    folder.mkdir()
    for number in range(count):
        mask = np.zeros((32, 48), np.uint8)
        mask[:, 6 * number : 6 * number + 12] = 255
        Image.fromarray(mask).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(("area", "width"), [("Whole picture", 64), ("Only masked", 96)])
def test_a_mask_video_says_what_is_painted_anew(
    services: Services, clip: Path, tmp_path: Path, area: str, width: int
) -> None:
    """What is painted alone goes back into the video's own frame."""
    asked = {"video": str(write_masks(tmp_path / "masks", 3)), "blur": 0, "area": area}
    made = film(services, clip, masks=asked, frames={"max_frames": 3})
    for number, frame in zip(range(3), open_video(clip).frames(), strict=False):
        found = frames_in(made.folder)[number]
        assert found.shape == (64, width, 3)
        fitted = np.asarray(Image.fromarray(frame.picture).resize((width, 64), Image.Resampling.LANCZOS))
        left, right = (width * column // 96 for column in (12 * number - 6, 12 * number + 30))
        assert np.array_equal(found[:, right:], fitted[:, right:])
        assert np.array_equal(found[:, : max(left, 0)], fitted[:, : max(left, 0)])
        inside = slice(max(left, 0) + 8, right - 8)
        assert not np.array_equal(found[:, inside], fitted[:, inside])


def test_one_mask_is_for_all_frames_and_may_be_turned_round(services: Services, clip: Path, tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "mask", 1)
    asked = {"video": str(masks), "blur": 0, "mode": "Inpaint not masked", "content": "fill"}
    made = film(services, clip, masks=asked, frames={"max_frames": 2})
    text = read_infotext((Path(made.folder) / "000002.png").read_bytes())[0] or ""
    assert "Mask mode: Inpaint not masked" in text
    assert "Masked content: fill" in text
    for number, frame in zip(range(2), open_video(clip).frames(), strict=False):
        fitted = np.asarray(Image.fromarray(frame.picture).resize((64, 64), Image.Resampling.LANCZOS))
        assert np.array_equal(frames_in(made.folder)[number][:, :11], fitted[:, :11])


def test_mistakes_are_told(services: Services, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    for path, options, words in (
        (tmp_path / "no.mp4", {}, "isn't a video"),
        (clip, {"frames": {"start": 9}}, "empty"),
        (clip, {"prompts": "snow"}, "12: a text"),
        (clip, {"masks": {"video": str(write_masks(tmp_path / "few", 3))}}, "The mask video has 3 frames"),
        (clip, {"masks": {"video": str(tmp_path / "no.mp4")}}, "isn't a video"),
        (clip, {"output": {"sound": "File"}}, "no soundtrack"),
        (clip, {"output": {"sound": "File", "soundtrack": str(tmp_path / "no.mp4")}}, "isn't a video"),
        (
            clip,
            {"output": {"format": "gif"}, "frames": {"keep_source_fps": False, "movie_fps": 60}},
            "A GIF can have 50",
        ),
    ):
        before = set(services.paths.outputs.glob("mov2mov-images/*"))
        with pytest.raises(InvalidRequest, match=words):
            film(services, path, **options)
        assert set(services.paths.outputs.glob("mov2mov-images/*")) == before, words  # before a frame is made


@pytest.mark.parity
def test_recorded_films(parity: Path, tmp_path: Path) -> None:
    """Every frame as the original makes it, with the checkpoint that it was recorded with."""
    recorded = parity / "mov2mov"
    if not recorded.is_dir():
        pytest.skip("the recordings of mov2mov are not there")
    lay_out(parity, tmp_path)
    flags = ["--data-dir", str(tmp_path), "--no-half", "--precision", "full", "--device", "cpu"]
    services = build_services(parse_flags(flags, {})[0])
    services.settings.update({"sd_model_checkpoint": "tinyA"})
    services.jobs.start()
    try:
        for name, case in json.loads((recorded / "manifest.json").read_text()).items():
            body = case["payload"]
            image = FromImage(denoising_strength=body["denoising_strength"], resize_mode=body["resize_mode"])
            request = GenerationRequest(
                **{
                    key: body[key]
                    for key in ("prompt", "negative_prompt", "seed", "steps", "cfg_scale", "width", "height")
                },
                sampler=body["sampler_name"],
                image=image,
            )
            frames = {"keep_source_fps": False, "movie_fps": case["movie_frames"], "max_frames": case["max_frames"]}
            made = film(
                services,
                recorded / case["video"],
                request,
                frames={**frames, "legacy_skip": True},
                noise_multiplier=body.get("initial_noise_multiplier", 1),
            )
            pictures = frames_in(made.folder)
            assert len(pictures) == len(case["files"]), name
            for picture, file in zip(pictures, case["files"], strict=True):
                wanted = np.array(Image.open(recorded / "images" / file).convert("RGB")).astype(int)
                assert np.abs(picture.astype(int) - wanted).max() <= 2, file
    finally:
        services.jobs.close(60)
        services.checkpoints.close()
