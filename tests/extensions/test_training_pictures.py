"""Splitting, cropping, mirroring and describing, through the job of the Extras tab."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.pipeline.test_faces import random_detector
from webui.core.choices import ExtrasStep
from webui.core.errors import InvalidRequest, NotFound
from webui.core.extras import ExtrasRequest, PictureSource
from webui.core.flags import parse_flags
from webui.core.operations import SCALE_TO
from webui.core.pictures import encode_image
from webui.core.request import GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine, build
from webui.pipeline.extras import run
from webui.planning.extras import make_extras_plan
from webui.services.building import build_services

NOISE = np.random.default_rng(0)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    flags, _ = parse_flags(["--data-dir", str(tmp_path_factory.mktemp("data")), "--device", "cpu"], {})
    services = build_services(flags)
    yield build(services)
    services.checkpoints.close()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(NOISE.integers(0, 256, (height, width, 3), np.uint8))


def operated(
    engine: Engine, image: Image.Image, settings: dict[str, Any] | None = None, **values: Any
) -> GenerationResult:
    """values: of the request; dicts are those of a step, by its group's name."""
    groups = {step.params.__name__: step.params for step in engine.choices.all(ExtrasStep) if step.params}
    extensions = {name: groups[name](**value) for name, value in values.items() if isinstance(value, dict)}
    asked = {name: value for name, value in values.items() if not isinstance(value, dict)}
    source = PictureSource("cat.png", encode_image(image, "png", "a cat"))
    request = ExtrasRequest(**{"sources": (source,), "save": False, **asked}, extensions=extensions)
    plan = make_extras_plan(request, engine.settings.snapshot().replace(**settings or {}), engine.choices)
    return run(engine, plan, JobContext.alone())


def pictures(result: GenerationResult) -> list[Image.Image]:
    return [Image.open(io.BytesIO(item.data)).convert("RGB") for item in result.images]


def on(**values: Any) -> dict[str, Any]:
    return {"enabled": True, **values}


TO = {"resize_mode": SCALE_TO, "width": 64, "height": 64}


@pytest.mark.parametrize(
    ("size", "overlap", "count"), [((64, 256), 0.0, 4), ((256, 64), 0.0, 4), ((100, 300), 0.2, 4), ((64, 200), 0.5, 6)]
)
def test_long_pictures_are_split_along_their_longer_side(
    engine: Engine, size: tuple[int, int], overlap: float, count: int
) -> None:
    image = noise(*size)
    made = pictures(operated(engine, image, **TO, SplitOversized=on(overlap=overlap)))
    assert [part.size for part in made] == [(64, 64)] * count
    if overlap == 0:
        whole = np.concatenate([np.asarray(part) for part in made], axis=0 if size[1] > size[0] else 1)
        assert (whole == np.asarray(image)).all()


@pytest.mark.parametrize(("size", "threshold"), [((64, 64), 1.0), ((100, 128), 0.5), ((128, 100), 0.5), ((1, 1), 1.0)])
def test_pictures_of_about_the_shape_asked_for_are_not_split(
    engine: Engine, size: tuple[int, int], threshold: float
) -> None:
    assert [
        image.size for image in pictures(operated(engine, noise(*size), **TO, SplitOversized=on(threshold=threshold)))
    ] == [size]


def test_a_thread_of_pixels_is_refused_in_a_sentence(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="img_max_size_mp"):
        operated(engine, noise(1, 9000), resize_mode=SCALE_TO, width=2048, height=2048, SplitOversized=on())


def spotted(left: int) -> Image.Image:
    """Grey with one busy spot."""
    image = Image.new("RGB", (300, 100), (90, 90, 90))
    image.paste(noise(40, 40), (left, 30))
    return image


@pytest.mark.parametrize("left", [5, 130, 255])
@pytest.mark.parametrize(
    "weights", [{"face_weight": 0, "entropy_weight": 0}, {"face_weight": 0, "edges_weight": 0}, {}]
)
def test_the_crop_goes_where_the_detail_is(engine: Engine, left: int, weights: dict[str, float]) -> None:
    to = {"resize_mode": SCALE_TO, "width": 100, "height": 100}
    result = operated(engine, spotted(left), **to, FocalCrop=on(**weights))
    (made,) = pictures(result)
    assert made.size == (100, 100)
    busy = np.asarray(made).std(axis=(0, 2)) > 10
    assert busy.sum() >= 38
    told = [comment for comment in result.comments if "Faces have no weight" in comment]
    assert len(told) == (0 if weights else 1)


def test_the_debug_picture_is_beside_and_goes_through_nothing_more(engine: Engine) -> None:
    to = {"resize_mode": SCALE_TO, "width": 50, "height": 100}
    values = {"FocalCrop": on(debug=True, face_weight=0), "FlippedCopies": on()}
    result = operated(
        engine, spotted(30), **to, **values, save=True, keep_names=True, output=engine.paths.data / "debug"
    )
    assert [image.size for image in pictures(result)] == [(50, 100), (300, 100), (50, 100)]
    names = [Path(item.path or "").name for item in result.images]
    assert names == ["cat.png", "cat-focal-crop-debug.png", "cat-1.png"]


def test_faces_draw_the_crop_to_them(engine: Engine) -> None:
    random_detector(engine.paths.models)
    try:
        result = operated(engine, spotted(130), **TO, FocalCrop=on(entropy_weight=0, edges_weight=0))
    finally:
        for file in (engine.paths.models / "facedetection").iterdir():
            file.unlink()
    assert [image.size for image in pictures(result)] == [(64, 64)]
    assert not any("Faces" in comment for comment in result.comments)


@pytest.mark.parametrize(
    ("size", "values", "expected"),
    [
        ((1000, 1000), {}, (640, 640)),
        ((1200, 900), {}, (704, 576)),
        ((1200, 900), {"objective": "Minimize error"}, (512, 384)),
        ((900, 1200), {"max_area": 200_000}, (384, 512)),
        ((300, 2000), {}, None),
        ((7, 7), {"min_side": 64, "max_side": 64}, (64, 64)),
        ((500, 500), {"min_side": 768, "max_side": 384}, None),
    ],
)
def test_the_size_that_suits_best_is_chosen(
    engine: Engine, size: tuple[int, int], values: dict[str, Any], expected: tuple[int, int] | None
) -> None:
    result = operated(engine, noise(*size), AutoSizedCrop=on(**values))
    assert pictures(result)[0].size == (expected or size)
    assert bool([comment for comment in result.comments if "not cropped" in comment]) == (expected is None)


def test_copies_are_mirrored_each_way(engine: Engine) -> None:
    image = noise(30, 20)
    result = operated(engine, image, FlippedCopies=on(option=("Horizontal", "Vertical", "Both")))
    expected = [image, ImageOps.mirror(image), ImageOps.flip(image), image.rotate(180)]
    for made, wanted in zip(pictures(result), expected, strict=True):
        assert (np.asarray(made) == np.asarray(wanted)).all()
    assert {item.infotext for item in result.images} == {""}


def test_operations_keep_a1111s_order_and_the_settings_change_it(engine: Engine) -> None:
    """What Upscale made is cropped and mirrored; with the order turned round each copy is enlarged."""
    image = noise(40, 20)
    values = {"upscaler_1": "Nearest", "scale": 2.0, "FlippedCopies": on()}
    plain = operated(engine, image, **values)
    assert [(item.width, item.infotext) for item in plain.images] == [
        (80, "Postprocess upscale by: 2.0, Postprocess upscaler: Nearest")
    ] * 2
    order = {"postprocessing_operation_order": ("Create flipped copies", "Upscale")}
    turned = operated(engine, image, order, **values)
    assert [item.data for item in turned.images] == [item.data for item in plain.images]
    steps = engine.choices.extras_steps(("Caption", "GFPGAN"))
    names = [step.name for step in steps if step.name != "ReActor"]  # which A1111 hasn't
    assert names == [
        *("Caption", "GFPGAN", "Upscale", "CodeFormer", "Split oversized images"),
        *("Auto focal point crop", "Auto-sized crop", "Create flipped copies"),
    ]


def test_operations_that_the_settings_leave_out_are_not_done(engine: Engine) -> None:
    settings = {"postprocessing_disable_in_extras": ("Upscale", "Create flipped copies")}
    result = operated(
        engine, noise(40, 20), settings, upscaler_1="Nearest", FlippedCopies=on(), SplitOversized=on(), **TO
    )
    assert [(item.width, item.height, item.infotext) for item in result.images] == [(40, 20, "")]
    assert result.comments == ("cat.png: It is not split: Upscale, which says to what size, is left out.",)
    with pytest.raises(InvalidRequest, match="ESRGAN"):
        operated(engine, noise(8, 8), {}, upscaler_1="ESRGAN_4x")
    operated(engine, noise(8, 8), settings, upscaler_1="ESRGAN_4x")


def test_captioners_that_are_not_there_are_told_before(engine: Engine) -> None:
    with pytest.raises(
        InvalidRequest,
        match=r"Deepbooru has no weights here yet\. Fetch them on the Extras tab \(614\.0 MB from github\.com",
    ):
        operated(engine, noise(8, 8), PictureCaption=on())
    with pytest.raises(InvalidRequest, match="BLIP has no weights here yet"):
        operated(engine, noise(8, 8), PictureCaption=on(option=("BLIP",)))
    with pytest.raises(NotFound, match='"Oracle"'):
        operated(engine, noise(8, 8), PictureCaption=on(option=("Oracle",)))


def test_a_picture_of_one_pixel_goes_through_all(engine: Engine) -> None:
    dot = Image.new("RGB", (1, 1), "teal")
    values = {"FocalCrop": on(), "AutoSizedCrop": on(min_side=64, max_side=64), "FlippedCopies": on()}
    result = operated(engine, dot, **TO, upscaler_1="Lanczos", SplitOversized=on(), **values)
    assert [image.size for image in pictures(result)] == [(64, 64)] * 2
