"""Faces exchanged while pictures are made: which ones, by whom, what else is done, and what the files tell."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extensions.faceswap.geometry import alignment, face_mask
from tests.extensions.faceswap import standins
from tests.extensions.faceswap.conftest import LEFT, RIGHT
from webui.core.errors import InvalidRequest
from webui.core.pictures import encode_image, read_infotext
from webui.core.request import FromImage, GenerationRequest, GenerationResult
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.pipeline.generate import run

SIZE = 128
COMPOSITE, GENERATED = "compositeWithTrainedAlgorithmicMedia", "trainedAlgorithmicMedia"


def source(*colors: tuple[int, int, int]) -> bytes:
    """A picture whose left and right halves have these colours, where the stand-in finds a face each."""
    picture = Image.new("RGB", (640, 640), colors[0])
    picture.paste(colors[-1], (320, 0, 640, 640))
    return encode_image(picture, "png", None)


RED, BLUE = (220, 40, 20), (20, 40, 220)
BOTH = source(RED, BLUE)


def made(engine: Engine, options: dict[str, Any] | None = None, **request: Any) -> GenerationResult:
    group = next(params for params in engine.host.params if params.__name__ == "ReActor")
    values = {"prompt": "a cat", "steps": 1, "width": SIZE, "height": SIZE, "seed": 1, "sampler": "Euler"}
    saving = {"save_samples": False, "save_grid": False}
    extensions = {"ReActor": group.checked(**{"enabled": True, "img": BOTH, **options})} if options is not None else {}
    asked = GenerationRequest(**{**values, **saving, **request}, extensions=extensions)
    return run(engine, engine.plan(asked), JobContext.alone(engine=engine))


def pixels(result: GenerationResult, index: int = 0) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.images[index].data)).convert("RGB"), dtype=int)


def at(hit: standins.Hit) -> tuple[int, int]:
    """Row and column of a face's middle in a picture of SIZE."""
    return hit.row * 8 * SIZE // 640, hit.column * 8 * SIZE // 640


@pytest.fixture(scope="module")
def plain(engine: Engine) -> np.ndarray:
    return pixels(made(engine))


def change(found: np.ndarray, plain: np.ndarray, hit: standins.Hit) -> float:
    """How much redder than bluer a face has become."""
    row, column = at(hit)
    area = (slice(row - 4, row + 4), slice(column - 4, column + 4))
    moved = (found - plain)[area].mean((0, 1))
    return float(moved[0] - moved[2])


def changed(found: np.ndarray, plain: np.ndarray, hit: standins.Hit) -> bool:
    return bool(found[at(hit)].tolist() != plain[at(hit)].tolist())


def test_one_face_is_exchanged_and_nothing_else(engine: Engine, plain: np.ndarray) -> None:
    result = made(engine, {"source_faces_index": "0"})
    found = pixels(result)
    assert changed(found, plain, LEFT)
    assert not changed(found, plain, RIGHT)
    assert (found[:25] == plain[:25]).all()  # above the faces
    (told,) = result.comments
    assert re.fullmatch(r"ReActor: face 0 \((fe)?male, 31\) became source face 0 \(male, 31\)\.", told)


def test_faces_are_exchanged_in_the_order_that_is_asked(engine: Engine, plain: np.ndarray) -> None:
    straight = pixels(made(engine, {"source_faces_index": "0,1", "faces_index": "0,1"}))
    crossed = pixels(made(engine, {"source_faces_index": "1,0", "faces_index": "0,1"}))
    reversed_ = pixels(made(engine, {"source_faces_index": "0,1", "faces_index": "0,1", "order_target": "right-left"}))
    large = pixels(made(engine, {"source_faces_index": "0", "faces_index": "0", "order_target": "small-large"}))
    for hit in (LEFT, RIGHT):
        assert changed(straight, plain, hit)
        assert change(straight, plain, hit) != pytest.approx(change(crossed, plain, hit), abs=5)
    np.testing.assert_array_equal(crossed, reversed_)
    assert (changed(large, plain, LEFT), changed(large, plain, RIGHT)) == (False, True)


def test_the_source_filter_counts_among_those_that_fit(engine: Engine, plain: np.ndarray) -> None:
    """The blue one is female for the stand-in, so it is the first female and the second of all."""
    second = pixels(made(engine, {"source_faces_index": "1"}))
    female = pixels(made(engine, {"gender_source": "Female Only"}))
    male = pixels(made(engine, {"gender_source": "Male Only"}))
    np.testing.assert_array_equal(second, female)
    np.testing.assert_array_equal(male, pixels(made(engine, {})))
    assert (male != female).any()


def test_what_fits_no_face_is_told_and_left(engine: Engine, plain: np.ndarray) -> None:
    for options, words in (
        ({"faces_index": "5"}, "no target face 5"),
        ({"source_faces_index": "7"}, "no source face 7"),
        ({"det_thresh": 0.95}, "found no face in the source picture 1"),
        ({"img": source(BLUE, BLUE), "gender_source": "Male Only"}, 'for "Male Only"'),
        ({"img": b"no picture"}, "isn't a picture"),
        ({"img": encode_image(Image.new("RGB", (1, 1)), "png", None), "faces_index": "9"}, "no target face 9"),
    ):
        result = made(engine, options)
        np.testing.assert_array_equal(pixels(result), plain)
        assert any(words in comment for comment in result.comments), (words, result.comments)
        assert "ReActor" not in result.images[0].infotext


def test_fifty_faces(engine: Engine, data: Path) -> None:
    hits = [standins.Hit(5 + 7 * (n // 10), 4 + 8 * (n % 10), (2, 2), score=0.6 + n / 200) for n in range(50)]
    try:
        standins.detector(data / "models", hits)
        every = ",".join(str(number) for number in range(50))
        result = made(engine, {"faces_index": every, "source_hash_check": False})
        assert sum("became" in comment for comment in result.comments) == 50
        few = made(engine, {"det_maxnum": 3, "faces_index": "0,1,2,3", "source_hash_check": False})
        assert any("no target face 3; 3 are there" in comment for comment in few.comments)
    finally:
        standins.detector(data / "models", (LEFT, RIGHT))


def test_every_picture_of_a_batch(engine: Engine) -> None:
    before = made(engine, batch_size=2, batch_count=2)
    after = made(engine, {"source_faces_index": "0"}, batch_size=2, batch_count=2)
    first = before.index_of_first_image
    assert len(after.images) == len(before.images) == first + 4
    for index in range(first, first + 4):
        assert changed(pixels(after, index), pixels(before, index), LEFT)
        assert "ReActor: " in after.images[index].infotext


def test_the_original_is_kept_if_wished(engine: Engine, plain: np.ndarray) -> None:
    result = made(engine, {"save_original": True})
    first = result.index_of_first_image
    kept, swapped = result.images[first:]
    np.testing.assert_array_equal(pixels(result, first), plain)
    assert changed(pixels(result, first + 1), plain, LEFT)
    assert ("ReActor" in kept.infotext, "ReActor" in swapped.infotext) == (False, True)
    assert read_infotext(kept.data)[1]["DigitalSourceType"] == GENERATED
    assert read_infotext(swapped.data)[1]["DigitalSourceType"] == COMPOSITE


def test_several_sources_make_a_result_each(engine: Engine, plain: np.ndarray) -> None:
    several = {"imgs": (source(RED), source(BLUE)), "tab": "tab_multiple"}
    result = made(engine, several, save_grid=True)
    assert result.images[0].is_grid
    assert read_infotext(result.images[0].data)[1]["DigitalSourceType"] == COMPOSITE
    red, blue = (pixels(result, index) for index in (1, 2))
    np.testing.assert_array_equal(red, pixels(made(engine, {"img": source(RED)})))
    np.testing.assert_array_equal(blue, pixels(made(engine, {"img": source(BLUE)})))


def test_a_folder_and_one_of_it_by_the_seed(engine: Engine, data: Path) -> None:
    folder = data / "outputs" / "people"
    folder.mkdir(parents=True)
    for number, color in enumerate((RED, BLUE, (20, 200, 20))):
        (folder / f"{number}.png").write_bytes(source(color))
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.png").write_bytes(b"no picture")
    asked = {"select_source": "Folder", "source_folder": "outputs/people", "img": None}
    result = made(engine, asked)
    assert len(result.images) == 3
    assert any("left out broken.png" in comment for comment in result.comments)
    (folder / "broken.png").unlink()
    drawn = [pixels(made(engine, {**asked, "random_image": True}, seed=seed)) for seed in (1, 1, 2, 3, 4, 5)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    picks = [made(engine, {**asked, "random_image": True}, seed=9) for _ in range(2)]
    assert len(picks[0].images) == 1
    np.testing.assert_array_equal(pixels(picks[0]), pixels(picks[1]))
    assert "source: folder" in picks[0].images[0].infotext
    assert "people" not in picks[0].images[0].infotext


def test_a_picture_is_told_with_what_was_done_and_read_again(engine: Engine) -> None:
    from webui.core.infotext import parse

    result = made(engine, {"faces_index": "0,1"})
    text = result.images[0].infotext
    told = "source: picture, model: inswapper_128.onnx, restorer: None, target index: 0 1"
    assert f'ReActor: "{told}"' in text
    group = next(params for params in engine.host.params if params.__name__ == "ReActor")
    assert group.reads_key("ReActor")
    found = group.from_infotext({"ReActor": told})
    assert found == {"model": "inswapper_128.onnx", "face_restorer_name": "None", "faces_index": "0,1"}
    assert parse(text) is not None


def test_faces_of_the_source_picture_are_exchanged_before_it_is_painted(engine: Engine, plain: np.ndarray) -> None:
    image = encode_image(Image.fromarray(plain.astype(np.uint8)), "png", None)
    asked = {"image": FromImage(images=(image,), denoising_strength=0.0), "steps": 1}
    still = made(engine, **asked)
    before = made(engine, {"swap_in_source": True, "swap_in_generated": False}, **asked)
    after = made(engine, {"swap_in_source": False, "swap_in_generated": True}, **asked)
    for result in (before, after):
        assert read_infotext(result.images[0].data)[1]["DigitalSourceType"] == COMPOSITE
        assert 'ReActor: "source: picture' in result.images[0].infotext
        assert (pixels(result) != pixels(still)).any()
    nothing = made(engine, {"swap_in_source": False, "swap_in_generated": False}, **asked)
    np.testing.assert_array_equal(pixels(nothing), pixels(still))


def test_masks_colours_and_finer_swaps_change_the_face_alone(engine: Engine, plain: np.ndarray) -> None:
    usual = pixels(made(engine, {}))
    row, column = at(LEFT)
    for options in ({"mask_face": True}, {"keep_covered": True}, {"match_colors": True}, {"side": "256"}):
        found = pixels(made(engine, options))
        assert (found[:25] == plain[:25]).all()
        assert (found != usual).any(), options
    masked = pixels(made(engine, {"mask_face": True}))
    assert (masked[row, column] == usual[row, column]).all()
    assert ((masked != plain).any(-1)).sum() < ((usual != plain).any(-1)).sum()


def test_it_is_enlarged_and_restored_as_asked(engine: Engine, plain: np.ndarray) -> None:
    larger = made(engine, {"upscaler_name": "Lanczos", "upscaler_scale": 2.0})
    assert pixels(larger).shape == (2 * SIZE, 2 * SIZE, 3)
    unrestored = made(engine, {"face_restorer_name": "CodeFormer"})
    assert any("faces were not restored. CodeFormer has no file here" in comment for comment in unrestored.comments)
    np.testing.assert_array_equal(pixels(unrestored), pixels(made(engine, {})))
    none = made(engine, {"upscaler_name": "Lanczos", "upscaler_scale": 2.0, "faces_index": "9"})
    assert pixels(none).shape == (SIZE, SIZE, 3)
    forced = made(
        engine, {"upscaler_name": "Lanczos", "upscaler_scale": 2.0, "faces_index": "9", "upscale_force": True}
    )
    assert pixels(forced).shape == (2 * SIZE, 2 * SIZE, 3)
    assert "ReActor" not in forced.images[0].infotext


def test_a_bad_swapper_loses_no_picture(engine: Engine, data: Path, plain: np.ndarray) -> None:
    folder = data / "models" / "insightface"
    good = (folder / "inswapper_128.onnx").read_bytes()
    detector = (folder / "models" / "buffalo_l" / "det_10g.onnx").read_bytes()
    contents = {
        "noise": b"\x08\x07" + bytes(2000),
        "cut": good[: len(good) // 2],
        "empty": b"",
        "detector": detector,
    }
    standins.swapper(data / "models", np.eye(4, dtype=np.float32), "noemap.onnx")
    contents["noemap"] = (folder / "noemap.onnx").read_bytes()
    for name, content in contents.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(content)
        result = made(engine, {"model": f"{name}.onnx"})
        np.testing.assert_array_equal(pixels(result), plain)
        assert len(result.comments) == 1, (name, result.comments)
        assert result.comments[0].startswith("ReActor changed nothing."), result.comments
        assert f"{name}.onnx" in result.comments[0]
        path.unlink()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "other.onnx"}, 'no swapper "other.onnx"; in models/insightface there are: inswapper_128.onnx'),
        ({"img": None}, "no source picture"),
        ({"select_source": "Face Model"}, "no face model"),
        ({"select_source": "Face Model", "face_model": "Jo"}, 'no face model "Jo"'),
        ({"select_source": "Folder"}, "no source folder"),
        ({"source_faces_index": "0,1"}, "2 source faces for 1 target"),
        ({"faces_index": "first"}, '"first" are no target face numbers'),
        ({"upscaler_name": "Lanczoss"}, "No upscaler is called"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(engine: Engine, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        made(engine, options)


def test_a_missing_swapper_is_named_with_folder_and_licence(engine: Engine, data: Path) -> None:
    path = data / "models" / "insightface" / "inswapper_128.onnx"
    content = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(InvalidRequest, match=r"inswapper_128\.onnx into models/insightface.*non-commercial"):
            made(engine, {"faces_index": "0"})
    finally:
        path.write_bytes(content)


def test_without_a_recogniser_pictures_cant_be_sources_but_face_models_can(engine: Engine, data: Path) -> None:
    from extensions.faceswap import face_models
    from extensions.faceswap.faces import Face

    embedding = np.random.default_rng(0).normal(size=512).astype(np.float32)
    kept = Face(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 1.0, embedding, 0, 30)
    face_models.save(data / "models", "Jo", kept)
    path = data / "models" / "insightface" / "models" / "buffalo_l" / "w600k_r50.onnx"
    content = path.read_bytes()
    path.unlink()
    try:
        result = made(engine, {"source_hash_check": False})
        assert any("w600k_r50.onnx" in comment for comment in result.comments)
        model = made(engine, {"select_source": "Face Model", "face_model": "Jo", "img": None})
        assert "source: face model Jo" in model.images[0].infotext
    finally:
        path.write_bytes(content)


def test_what_the_content_check_takes_for_explicit_stays_until_it_is_switched_off(
    engine: Engine, plain: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the extension's own module, which has a private name
    swapping = next(module for name, module in sys.modules.items() if re.fullmatch(r"_ext.*faceswap.*\.swapping", name))
    monkeypatch.setattr(swapping, "THRESHOLD", -1.0)  # no picture is below
    result = made(engine, {})
    np.testing.assert_array_equal(pixels(result), plain)
    assert any("content check" in comment for comment in result.comments)
    off = made(engine, {}, overrides={"reactor_content_check": False})
    assert (pixels(off) != plain).any()


def test_networks_are_let_go_if_wished(engine: Engine) -> None:
    def lent() -> int:
        return sum("'faceswap'" in item.name for item in engine.models.peek())

    made(engine, {"source_faces_index": "0"})
    assert lent() >= 4
    made(engine, {"source_faces_index": "0"}, overrides={"reactor_unload": True})
    assert lent() == 0


def test_a_graphics_card_that_isnt_there_is_told(engine: Engine, plain: np.ndarray) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is one")
    result = made(engine, {"device": "CUDA"})
    assert any("on the CPU" in comment for comment in result.comments)
    np.testing.assert_array_equal(pixels(result), pixels(made(engine, {})))


def test_the_mask_is_where_the_face_is() -> None:
    """So that the tests above look at the right places."""
    x, y = LEFT.column * 8 / 5, LEFT.row * 8 / 5
    points = np.array([(-1, -1), (1, -1), (0, 0), (-0.75, 1.1), (0.75, 1.1)]) * 6 + (x, y)
    mask = face_mask(alignment(points, 128), (SIZE, SIZE), 128)
    assert mask[at(LEFT)] == pytest.approx(1)
