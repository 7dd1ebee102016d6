"""The job of the Extras tab: sizes, texts, names of files, and what it refuses."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from webui.core.errors import InvalidRequest
from webui.core.extras import ExtrasRequest, PictureSource
from webui.core.flags import parse_flags
from webui.core.operations import SCALE_TO
from webui.core.pictures import encode_image, read_infotext
from webui.core.request import GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline import upscaling
from webui.pipeline.engine import Engine, build
from webui.pipeline.extras import run
from webui.planning.extras import make_extras_plan
from webui.services.building import build_services

INFOTEXT = "a cat\nSteps: 1, Sampler: Euler, Seed: 1"
SOURCE = PictureSource("cat.jpg", encode_image(Image.effect_noise((32, 16), 50), "jpg", INFOTEXT, {"easel": "{}"}))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    flags, _ = parse_flags(["--data-dir", str(tmp_path_factory.mktemp("data")), "--device", "cpu"], {})
    services = build_services(flags)
    yield build(services)
    services.checkpoints.close()


def made(engine: Engine, *sources: PictureSource, **values: Any) -> GenerationResult:
    values = {"upscaler_1": "Lanczos", "save": False, **values}
    return worked_on(engine, ExtrasRequest(sources=sources or (SOURCE,), **values), JobContext.alone())


def worked_on(engine: Engine, request: ExtrasRequest, job: JobContext) -> GenerationResult:
    return run(engine, make_extras_plan(request, engine.settings.snapshot(), engine.choices), job)


def size_of(result: GenerationResult) -> tuple[int, int]:
    with Image.open(io.BytesIO(result.images[0].data)) as image:
        return image.size


def test_a_picture_keeps_its_infotext_and_tells_what_was_done(engine: Engine) -> None:
    result = made(engine, scale=2.0, upscaler_2="Nearest", upscaler_2_visibility=0.5)
    infotext, items = read_infotext(result.images[0].data)
    done = "Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos, Postprocess upscaler 2: Nearest"
    assert infotext == INFOTEXT
    assert items == {"easel": "{}", "postprocessing": done}
    assert result.images[0].infotext == done
    assert size_of(result) == (64, 32)


def test_scaling_to_a_size_with_and_without_cropping(engine: Engine) -> None:
    to = {"resize_mode": SCALE_TO, "width": 40, "height": 40}
    assert size_of(made(engine, **to)) == (40, 40)
    assert size_of(made(engine, **to, crop=False)) == (80, 40)
    assert "Postprocess crop to: 40x40" in made(engine, **to).images[0].infotext


def test_the_longest_side_can_be_limited(engine: Engine) -> None:
    result = made(engine, scale=4.0, max_side=64)
    assert size_of(result) == (64, 32)
    assert "Max side length: 64" in result.images[0].infotext
    assert size_of(made(engine, scale=1.0, max_side=64)) == (32, 16)


def test_without_an_upscaler_the_picture_stays(engine: Engine) -> None:
    result = made(engine, upscaler_1="None", upscaler_2="Lanczos", upscaler_2_visibility=1.0)
    assert size_of(result) == (32, 16)
    assert result.images[0].infotext == ""


def test_pictures_are_saved_numbered_or_under_their_own_names(engine: Engine) -> None:
    folder = engine.paths.data / "outputs" / "extras-images"
    for _ in range(2):
        made(engine, save=True)
    made(engine, save=True, keep_names=True)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.png", "00001.png", "cat.png"]
    elsewhere = engine.paths.data / "elsewhere"
    result = made(engine, save=True, output=elsewhere, show=False)
    assert [path.name for path in elsewhere.iterdir()] == ["00000.png"]
    assert result.images == ()


def test_the_upscalers_name_can_be_a_suffix(engine: Engine) -> None:
    engine.settings.update({"use_upscaler_name_as_suffix": True})
    result = made(engine, save=True, keep_names=True, output=engine.paths.data / "suffix")
    engine.settings.update({"use_upscaler_name_as_suffix": False})
    assert Path(result.images[0].path or "").name == "cat-Lanczos.png"


def test_one_bad_picture_among_many_is_reported(engine: Engine, tmp_path: Path) -> None:
    bad, gone = PictureSource("bad.png", b"nothing"), PictureSource("gone.png", path=tmp_path / "gone.png")
    result = made(engine, SOURCE, bad, gone)
    assert len(result.images) == 1
    assert [comment.split(":")[0] for comment in result.comments] == ["bad.png", "gone.png"]
    with pytest.raises(InvalidRequest, match="isn't a picture"):
        made(engine, bad)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"upscaler_1": "ESRGAN_5x"}, "No upscaler"),
        ({"upscaler_2": "ESRGAN_4x"}, "put ESRGAN.pth .* into the folder models/ESRGAN"),
        ({"gfpgan_visibility": 0.1}, "GFPGAN has no file here: put GFPGANv1.4.pth .* into the folder models/GFPGAN"),
        ({"codeformer_visibility": 1.0}, "CodeFormer has no file here"),
        ({"resize_mode": SCALE_TO, "width": 16384, "height": 16384}, "img_max_size_mp"),
    ],
)
def test_what_cannot_be_done_is_refused(engine: Engine, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        made(engine, **values)


def test_no_picture_at_all_is_refused(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="no picture"):
        worked_on(engine, ExtrasRequest(), JobContext.alone())


def test_an_interrupted_job_returns_what_it_has(engine: Engine) -> None:
    class Stopping(JobContext):
        def next_pass(self) -> None:
            super().next_pass()
            self._publish(interrupted=True)

    request = ExtrasRequest(sources=(SOURCE,) * 3, upscaler_1="Lanczos", save=False)
    assert len(worked_on(engine, request, Stopping.alone()).images) == 1


PAIRS = [
    {"pic.jpg": "red", "pic.png": "blue"},
    {"a.webp": "red", "a.jpg": "blue", "a.gif": "white", "a.png": "black"},
    {"x.png": "red", "x-1.jpg": "blue", "x.jpg": "white"},
    {"CON.png": "red", "nul.jpg": "blue", "猫.png": "white", "猫.jpg": "black"},
]


@pytest.mark.parametrize("colours", PAIRS, ids=lambda colours: next(iter(colours)))
def test_results_take_no_place_of_a_source_or_another_result(
    engine: Engine, tmp_path: Path, colours: dict[str, str]
) -> None:
    given = tmp_path / "in"
    given.mkdir()
    for name, colour in colours.items():
        Image.new("RGB", (8, 8), colour).save(given / name)
    before = {path.name: path.read_bytes() for path in given.iterdir()}
    sources = [PictureSource(path.name, path=path) for path in sorted(given.iterdir())]
    for output in (tmp_path / "out", given, tmp_path / "in" / ".." / "in"):
        result = made(engine, *sources, upscaler_1="Nearest", save=True, keep_names=True, output=output)
        paths = [Path(str(image.path)) for image in result.images]
        assert len({path.resolve() for path in paths}) == len(colours)
        assert {name: (given / name).read_bytes() for name in before} == before
        wanted = [Image.new("RGB", (1, 1), colours[source.name]).getpixel((0, 0)) for source in sources]
        for path, colour in zip(paths, wanted, strict=True):
            with Image.open(path) as image:
                assert image.size == (32, 32)
                pixel = image.convert("RGB").getpixel((3, 3))
                assert max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 8  # JPEG's loss


def test_a_link_among_the_sources_is_not_written_over(engine: Engine, tmp_path: Path) -> None:
    original = tmp_path / "elsewhere.png"
    Image.new("RGB", (8, 8), "red").save(original)
    given = tmp_path / "in"
    given.mkdir()
    (given / "pic.png").symlink_to(original)
    (given / "two.png").symlink_to(given / "real.png")
    Image.new("RGB", (8, 8), "blue").save(given / "real.png")
    before = original.read_bytes(), (given / "real.png").read_bytes()
    sources = [PictureSource(name, path=given / name) for name in ("pic.png", "two.png")]
    made(engine, *sources, upscaler_1="Nearest", save=True, keep_names=True, output=given)
    assert (original.read_bytes(), (given / "real.png").read_bytes()) == before
    assert (given / "pic.png").is_symlink()
    assert (given / "two.png").is_symlink()


def test_a_result_that_cannot_be_saved_goes_elsewhere_and_is_told(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = made(engine, save=True, keep_names=True, output=tmp_path / "file")
    assert result.images[0].path == str(engine.paths.outputs / "rescued" / "cat.png")
    assert str(tmp_path / "file") in result.comments[0]


def test_an_enlarged_picture_is_kept_for_the_next_job(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as setting upscaling_max_images_in_cache says; what comes after may change meanwhile."""
    runs: list[str] = []
    by_nearest = upscaling.by_nearest

    def counted(image: Image.Image, scale: float, enlarger: Any) -> Image.Image:
        runs.append(enlarger.upscaler.name)
        return by_nearest(image, scale, enlarger)

    monkeypatch.setattr(upscaling, "by_nearest", counted)
    sources = [PictureSource(f"{n}.png", encode_image(Image.effect_noise((16, 16), 50), "png", None)) for n in range(4)]
    values = {"upscaler_1": "Nearest", "scale": 2.0}
    made(engine, sources[0], **values)
    first = made(engine, sources[0], **values).images[0].data
    made(engine, sources[0], **values, upscaler_2="Lanczos", upscaler_2_visibility=0.5)
    assert runs == ["Nearest"]
    made(engine, sources[0], **{**values, "scale": 3.0})
    made(engine, sources[1], **values)
    assert runs == ["Nearest"] * 3
    engine.settings.update({"upscaling_max_images_in_cache": 2})
    try:
        made(engine, *sources, **values)
        runs.clear()
        made(engine, sources[3], **values)
        assert runs == []
        assert made(engine, sources[0], **values).images[0].data == first
        assert runs == ["Nearest"]
        engine.settings.update({"upscaling_max_images_in_cache": 0})
        made(engine, sources[0], **values)
        made(engine, sources[0], **values)
        assert runs == ["Nearest"] * 3
    finally:
        engine.settings.update({"upscaling_max_images_in_cache": 5})
