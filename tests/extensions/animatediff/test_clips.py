"""Clips through the public door: what is saved and handed back, prompts, keyframes, FreeInit, LoRAs, second passes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from extensions.animatediff.noise import reused
from extensions.animatediff.unloading import KIND, LOANS, Unload
from tests.extensions.animatediff.conftest import Clips
from tests.extensions.animatediff.motion_files import adapter, tensors_of
from tests.extensions.animatediff.test_modules import AS_DIFFUSERS, apart, by_diffusers
from webui.core.errors import InvalidRequest
from webui.core.infotext import parse
from webui.core.pictures import read_infotext
from webui.core.request import FromImage, HiresFix, Inpaint
from webui.jobs.context import JobContext
from webui.services.infotexts import form_from_infotext
from webui.services.services import Services
from webui.video import open_video, read_texts

torch = pytest.importorskip("torch")


def picture(colour: str = "red", size: tuple[int, int] = (64, 64)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "png")
    return file.getvalue()


@pytest.fixture
def outputs(services: Services) -> Iterator[Path]:
    folder = services.paths.outputs / "txt2img-images" / "AnimateDiff"
    before = set(folder.rglob("*"))
    yield folder
    assert all(path.is_file() for path in before if path.suffix)


def test_every_format_is_saved_under_one_name_with_the_text(clips: Clips, outputs: Path, tmp_path: Path) -> None:
    formats = ("GIF", "MP4", "WEBP", "WEBM", "PNG", "TXT")
    made = clips.make({"format": formats, "fps": 10, "loop_number": 2, "request_id": "job/7"}, seed=77)
    assert [file.mime for file in made.images] == ["image/gif", "video/mp4", "image/webp", "video/webm"]
    assert [(file.role, file.mime) for file in made.files] == [("text", "text/plain")]
    paths = [Path(file.path or "") for file in (*made.images, *made.files)]
    assert len({path.stem for path in paths}) == 1
    assert re.fullmatch(r"\d{5}-77-job_7", paths[0].stem)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", paths[0].parent.name)
    assert paths[0].parent.parent == outputs
    frames = sorted((paths[0].parent / paths[0].stem).iterdir())
    assert [frame.name for frame in frames] == [f"{number:05}.png" for number in range(4)]
    text = made.images[0].infotext
    assert 'AnimateDiff: "model: AnimateDiff v3, video_length: 4, fps: 10' in text
    for path, file in zip(paths, made.images, strict=False):
        assert path.read_bytes() == file.data
        if path.suffix in (".mp4", ".webm"):
            assert read_texts(path)[0] == text
            video = open_video(path)
            assert (video.count, float(video.rate), video.width) == (4, 10, 64)
        elif path.suffix == ".gif":
            assert Image.open(path).info["loop"] == 2
            assert Image.open(path).info["duration"] == 100
        if path.suffix in (".gif", ".webp"):
            assert read_infotext(file.data)[0] == text
    assert paths[-1].read_text() == text
    assert "Seed: 79" in (read_infotext(frames[2].read_bytes())[0] or "")
    assert np.array_equal(np.asarray(Image.open(frames[1])), np.asarray(made.pictures[1]))


def test_two_clips_have_two_numbers_and_go_on_counting_seeds(clips: Clips) -> None:
    made = clips.make({"format": ("GIF",)}, batch_count=2, seed=5)
    names = [Path(file.path or "").stem for file in made.images]
    assert [name.partition("-")[2] for name in names] == ["5", "9"]
    assert int(names[1][:5]) == int(names[0][:5]) + 1
    assert made.info["all_seeds"] == list(range(5, 13))
    assert len(made.info["infotexts"]) == 8


def test_what_is_not_to_be_saved_is_handed_back_alone(clips: Clips, services: Services) -> None:
    before = set(services.paths.outputs.rglob("*"))
    made = clips.make({"format": ("MP4", "PNG", "Frame")}, save_samples=False)
    assert [file.mime for file in made.images] == ["video/mp4", *["image/png"] * 4]
    assert all(file.path is None for file in made.images)
    assert set(services.paths.outputs.rglob("*")) == before


def test_a_closed_loop_goes_back_the_way_it_came(clips: Clips) -> None:
    made = clips.make({"format": ("GIF", "Frame"), "video_length": 6, "batch_size": 6, "closed_loop": "A"})
    frames = [file.data for file in made.images[1:]]
    assert len(frames) == 10
    assert frames[6:] == frames[4:0:-1]
    assert Image.open(io.BytesIO(made.images[0].data)).n_frames == 10  # type: ignore[attr-defined]
    alone = clips.make({"format": ("PNG",), "video_length": 6, "batch_size": 6, "closed_loop": "A"})
    assert len(alone.images) == 6


def test_sixteen_frames_at_eight_a_second_last_two_seconds(clips: Clips) -> None:
    made = clips.make({"format": ("GIF", "MP4"), "video_length": 16, "batch_size": 16}, steps=1)
    gif = Image.open(io.BytesIO(made.images[0].data))
    shown = []
    for number in range(gif.n_frames):  # type: ignore[attr-defined]
        gif.seek(number)
        shown.append(gif.info["duration"])
    assert (len(shown), gif.info.get("loop")) == (16, 0)
    assert sum(shown) == pytest.approx(2000, abs=10)  # in hundredths, of which the last frame has a whole number
    with av.open(io.BytesIO(made.images[1].data)) as film:
        assert film.streams.video[0].average_rate == 8


def test_odd_sizes_make_videos_too(clips: Clips) -> None:
    made = clips.make({"format": ("MP4", "WEBM", "WEBP", "GIF")}, width=72, height=40, steps=1)
    assert len(made.images) == 4


def test_a_gif_cannot_be_faster_than_browsers_play_it(clips: Clips) -> None:
    with pytest.raises(InvalidRequest, match="50 frames a second"):
        clips.make({"format": ("GIF",), "fps": 60})


@pytest.mark.parametrize(
    ("clip", "made", "told"),
    [
        ({"video_length": 0, "batch_size": 3}, 3, "video_length: 3"),
        ({"video_length": 2, "batch_size": 5}, 5, "video_length: 2"),
        ({"video_length": 7, "batch_size": 3}, 7, "video_length: 7"),
    ],
)
def test_how_many_frames_are_made(clips: Clips, clip: dict[str, Any], made: int, told: str) -> None:
    result = clips.make(clip, steps=1, batch_size=2)
    assert len(result.images) == made
    assert told in result.images[0].infotext
    assert f"AnimateDiff: the batch size has no effect; a batch is a clip of {made} frames." in result.comments


def test_contexts_meet_smoothly_on_average(clips: Clips) -> None:
    asked = {"video_length": 10, "batch_size": 4}
    averaged, last = (clips.latents(asked, {"animatediff_windows": how}) for how in ("Average", "The last one wins"))
    whole = clips.latents({"video_length": 10, "batch_size": 10})
    assert averaged.shape == last.shape == whole.shape
    assert not torch.allclose(averaged, last)
    assert not torch.allclose(averaged, whole)


def test_a_long_clip_of_many_frames_is_made(clips: Clips) -> None:
    assert len(clips.make({"video_length": 70, "batch_size": 16}, steps=1).images) == 70


@pytest.mark.parametrize("noise", ["The same", "Half shared", "FreeNoise"])
def test_frames_share_noise(clips: Clips, noise: str) -> None:
    asked = {"video_length": 10, "batch_size": 4}
    made = clips.make({**asked, "noise": noise})
    assert f"noise: {noise}" in made.images[0].infotext
    assert made.images[5].data != clips.make(asked).images[5].data


def test_free_noise_is_that_of_diffusers(clips: Clips) -> None:
    """Contexts within the motion modules, averaged by pyramid weights. The shuffled noise is each program's own."""
    asked = {"model": "AnimateDiff v2", "video_length": 12, "batch_size": 8, "noise": "FreeNoise"}
    ours = clips.latents(asked, AS_DIFFUSERS, steps=4, negative_prompt="a dog", seed=3, cfg_scale=1.5)
    drawn = [torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3 + number)) for number in range(12)]
    noise = reused(torch.cat(drawn), 8, 4, 3)
    theirs = by_diffusers(clips, "AnimateDiff v2", adapter("AnimateDiff v2"), 12, 3, free=8, noise=noise)
    assert apart(ours, theirs) < 1e-4


def test_prompts_travel_and_the_text_keeps_them(clips: Clips) -> None:
    prompt = "best\n0: a cat\n3: a dog\nnight"
    made = clips.make({"video_length": 6, "batch_size": 6}, prompt=prompt, negative_prompt="0: ugly\n5: bad")
    assert made.info["all_prompts"][2:4] == ["best, a cat, night", "best, a dog, night"]
    assert made.info["all_negative_prompts"] == ["ugly"] * 5 + ["bad"]
    told = parse(made.images[4].infotext)
    assert (told["Prompt"], told["Negative prompt"]) == (prompt, "0: ugly\n5: bad")
    still = clips.make({"video_length": 6, "batch_size": 6}, prompt="best, a cat, night", negative_prompt="ugly")
    assert made.images[4].data != still.images[4].data


@pytest.mark.parametrize("pad", [True, False])
def test_unequal_prompts_are_one_scene(clips: Clips, pad: bool) -> None:
    long = "a cat, " * 40
    made = clips.latents({}, {"pad_cond_uncond": pad}, prompt=long, negative_prompt="ugly")
    swapped = clips.latents({}, {"pad_cond_uncond": pad}, prompt="ugly", negative_prompt=long)
    padded = clips.latents({}, {"pad_cond_uncond": True}, prompt=long, negative_prompt="ugly")
    assert torch.equal(made, padded)
    assert torch.isfinite(swapped).all()


def test_networks_of_frames_must_be_the_same(clips: Clips) -> None:
    with pytest.raises(InvalidRequest, match="different extra networks"):
        clips.make({}, prompt="0: a cat <lora:one:1>\n2: a dog")


def test_hires_fix_takes_the_whole_clip(clips: Clips) -> None:
    hires = HiresFix(upscaler="Latent", scale=1.5, steps=2, prompt="0: big\n2: bigger")
    made = clips.make({"video_length": 6, "batch_size": 4, "format": ("GIF", "PNG", "Frame")}, hires=hires)
    assert [Image.open(io.BytesIO(file.data)).size for file in made.images] == [(96, 96)] * 7
    assert 'Hires prompt: "0: big\\n2: bigger"' in made.images[1].infotext


def test_img2img_begins_with_a_picture_and_ends_with_another(clips: Clips) -> None:
    begun = clips.make({"latent_scale": 4, "latent_scale_last": 4, "last_frame": picture("blue")}, image=picture("red"))
    assert "latent_power: 1, latent_scale: 4, latent_power_last: 1, latent_scale_last: 4" in begun.images[0].infotext
    other = clips.make(
        {"latent_scale": 4, "latent_scale_last": 4, "last_frame": picture("green")}, image=picture("red")
    )
    assert begun.images[0].data != other.images[0].data or begun.images[-1].data != other.images[-1].data
    without = clips.make({"last_frame": picture("blue")})
    assert "AnimateDiff: the last frame has no effect in txt2img; img2img begins with pictures." in without.comments


def test_what_is_not_masked_stays_what_the_frame_began_with(clips: Clips) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "png")
    image = FromImage(images=(picture("red"),), inpaint=Inpaint(mask=file.getvalue(), blur_x=0, blur_y=0))
    made = clips.latents({"latent_scale": 2}, image=image)
    again = clips.latents({"latent_scale": 2}, image=image, prompt="something else")
    assert torch.equal(made[..., :4], again[..., :4])
    assert not torch.equal(made[..., 4:], again[..., 4:])
    assert not torch.allclose(made[0, :, :, :4], made[3, :, :, :4])


def test_pictures_for_each_frame_or_one(clips: Clips) -> None:
    pictures = tuple(picture(colour) for colour in ("red", "green", "blue", "white"))
    assert len(clips.make({}, image=FromImage(images=pictures)).images) == 4
    with pytest.raises(InvalidRequest, match="3 pictures can't begin a clip of 4 frames"):
        clips.make({}, image=FromImage(images=pictures[:3]))


def test_free_init_samples_again(clips: Clips) -> None:
    once = clips.latents({})
    twice = clips.latents({"freeinit_enable": True, "freeinit_iters": 2})
    assert not torch.allclose(once, twice)
    nothing_slow = clips.latents({"freeinit_enable": True, "freeinit_iters": 2, "freeinit_ds": 0})
    torch.testing.assert_close(nothing_slow, once, atol=1e-3, rtol=1e-3)


def write_lora(folder: Path, family: str, name: str, layout: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(4)
    stored: dict[str, Any] = {}
    for key, tensor in tensors_of(adapter(family), family, layout).items():
        place, end, _ = key.removeprefix("module.").rpartition(".weight")
        if end and re.search(r"\.to_(q|k|v|out\.0)$", place):
            block, _, kind = place.rpartition(".to_")
            kind = kind.removesuffix(".0")
            stored[f"{block}.processor.to_{kind}_lora.down.weight"] = torch.randn(2, tensor.shape[1])
            stored[f"{block}.processor.to_{kind}_lora.up.weight"] = torch.randn(tensor.shape[0], 2)
    save_file(stored, folder / f"{name}.safetensors")


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_motion_loras_move_the_clip_and_come_off(clips: Clips, services: Services, layout: str) -> None:
    write_lora(services.paths.models / "Lora", "AnimateDiff v2", f"pan-{layout}", layout)
    asked = {"model": "AnimateDiff v2"}
    plain = clips.make(asked)
    panned = clips.make(asked, prompt=f"a cat <lora:pan-{layout}:0.8>")
    assert panned.comments == ()
    assert panned.images[0].data != plain.images[0].data
    assert f'Lora hashes: "pan-{layout}' in panned.images[0].infotext
    assert clips.make(asked).images[0].data == plain.images[0].data
    half = clips.make({}, prompt=f"a cat <lora:pan-{layout}:0.8>")
    assert any("modules don't fit AnimateDiff v3" in comment for comment in half.comments)
    off = clips.make({"enable": False}, prompt=f"a cat <lora:pan-{layout}:0.8>")
    assert f"The LoRA 'pan-{layout}' is for motion modules; enable AnimateDiff to use it." in off.comments


def test_modules_are_unloaded_by_a_job(clips: Clips, services: Services) -> None:
    clips.make({})
    models = clips.engine.models
    assert models.borrowed(LOANS)
    kind = next(kind for kind in services.host.job_kinds if kind.id == KIND.id)
    rested: Any = kind.run(clips.engine, Unload(to_cpu=True), JobContext.alone())  # type: ignore[operator]
    assert "in main memory" in rested.sentence
    freed: Any = kind.run(clips.engine, Unload(to_cpu=False), JobContext.alone())  # type: ignore[operator]
    assert re.search(r"[1-9]\d* motion modules? (is|are) removed from memory", freed.sentence)
    assert models.borrowed(LOANS) == []


def test_the_text_is_read_back(clips: Clips, services: Services) -> None:
    asked = {
        "model": "AnimateDiff v2", "video_length": 6, "batch_size": 4, "fps": 12, "closed_loop": "R+P", "stride": 2,
        "overlap": 1, "loop_number": 3, "request_id": "x", "noise": "The same", "latent_scale": 7.5,
    }  # fmt: skip
    made = clips.make(asked, steps=1, image=picture())
    form = form_from_infotext(made.images[0].infotext, services).form
    told = {name: form[f"extensions.AnimateDiff.{name}"] for name in asked}
    assert told == asked
    assert form["extensions.AnimateDiff.enable"] is True
