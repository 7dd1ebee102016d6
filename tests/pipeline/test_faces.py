"""Faces restored in Extras and while generating, with MTCNN's own weights where PyPI can be reached."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.models.faces.test_restorer import face_at
from tests.tiny import tiny_checkpoint
from webui.core.errors import BadModelFile
from webui.core.extras import ExtrasRequest, PictureSource
from webui.core.flags import parse_flags
from webui.core.packaged import FACE_DETECTOR
from webui.core.pictures import encode_image
from webui.core.request import GenerationRequest
from webui.jobs.context import JobContext
from webui.models.faces.detector import FaceDetector
from webui.models.faces.restorer import with_restored_faces
from webui.net.egress import Unreachable
from webui.pipeline import extras, generate
from webui.pipeline.engine import Engine, build
from webui.planning.extras import make_extras_plan
from webui.services.building import build_services
from webui.services.packaged import install_weights

SHAPES = {
    "pnet": {"conv1": (10, 3, 3), "conv2": (16, 10, 3), "conv3": (32, 16, 3)}
    | {"conv4_1": (2, 32, 1), "conv4_2": (4, 32, 1)},
    "rnet": {"conv1": (28, 3, 3), "conv2": (48, 28, 3), "conv3": (64, 48, 2), "dense4": (128, 576)}
    | {"dense5_1": (2, 128), "dense5_2": (4, 128)},
    "onet": {"conv1": (32, 3, 3), "conv2": (64, 32, 3), "conv3": (64, 64, 3), "conv4": (128, 64, 2)}
    | {"dense5": (256, 1152), "dense6_1": (2, 256), "dense6_2": (4, 256), "dense6_3": (10, 256)},
}  # fmt: skip


def random_detector(models: Path) -> None:
    """Networks in the layout of MTCNN's that are sure of every candidate."""
    generator = torch.Generator().manual_seed(0)
    for weights, (_, layers) in zip(FACE_DETECTOR, SHAPES.items(), strict=True):
        tensors = {}
        for name, shape in layers.items():
            full = (*shape[:2], shape[2], shape[2]) if len(shape) == 3 else shape
            tensors[f"{name}.weight"] = torch.randn(full, generator=generator) * 0.01
            tensors[f"{name}.bias"] = torch.zeros(shape[0])
            if name.endswith("_1"):
                tensors[f"{name}.bias"] = torch.tensor([-5.0, 5.0])
            elif name.endswith("_3"):
                x, y = (0.35, 0.65, 0.5, 0.4, 0.6), (0.4, 0.4, 0.6, 0.75, 0.75)
                tensors[f"{name}.bias"] = torch.tensor([*x, *y])
            elif "_" not in name:
                prelu = name.replace("conv", "prelu").replace("dense", "prelu")
                tensors[f"{prelu}.weight"] = torch.full((shape[0],), 0.25)
        path = weights.path(models)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tensors, path)


def reddening(path: Path) -> None:
    """A network of scale 1 in place of GFPGAN, which makes what it sees redder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"body.{layer}.weight": torch.zeros(8, 3 if layer == 0 else 8, 3, 3) for layer in (0, 2)}
    tensors |= {"body.1.weight": torch.zeros(8), "body.3.weight": torch.zeros(8)}
    tensors |= {"body.0.bias": torch.zeros(8), "body.2.bias": torch.zeros(8)}
    tensors |= {"body.4.weight": torch.zeros(3, 8, 3, 3), "body.4.bias": torch.tensor([1.0, -1.0, -1.0])}
    save_file(tensors, path)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    data = tmp_path_factory.mktemp("data")
    random_detector(data / "models")
    reddening(data / "models" / "GFPGAN" / "GFPGANv1.4.safetensors")
    (data / "models" / "GFPGAN" / "detection_Resnet50_Final.pth").write_bytes(b"not one of the restorers")
    tiny_checkpoint(data / "models" / "Stable-diffusion")
    flags, _ = parse_flags(["--data-dir", str(data), "--device", "cpu"], {})
    services = build_services(flags)
    yield build(services)
    services.checkpoints.close()


GREY = Image.new("RGB", (96, 80), (100, 120, 140))


def restored(engine: Engine, image: Image.Image = GREY, **values: float) -> tuple[np.ndarray, str]:
    source = PictureSource("cat.png", encode_image(image, "png", None))
    request = ExtrasRequest(sources=(source,), save=False, **values)
    plan = make_extras_plan(request, engine.settings.snapshot(), engine.choices)
    result = extras.run(engine, plan, JobContext.alone())
    with Image.open(io.BytesIO(result.images[0].data)) as made:
        return np.asarray(made.convert("RGB")).astype(int), result.images[0].infotext


def test_extras_restores_faces_as_far_as_they_are_to_be_seen(engine: Engine) -> None:
    whole, told = restored(engine, gfpgan_visibility=1.0)
    assert told == "GFPGAN visibility: 1.0"
    assert ((whole[:, :, 0] > 250) & (whole[:, :, 1] < 5)).any()
    half, told = restored(engine, gfpgan_visibility=0.5)
    assert told == "GFPGAN visibility: 0.5"
    expected = (whole + np.asarray(GREY).astype(int)) / 2
    assert np.abs(half - expected).max() <= 1
    nothing, told = restored(engine)
    assert told == ""
    assert (nothing == np.asarray(GREY)).all()


def kept(engine: Engine) -> list[str]:
    return [loaded.name for loaded in engine.models.peek() if "face restorer" in loaded.name]


def test_the_network_leaves_memory_where_the_setting_wishes_it(engine: Engine) -> None:
    restored(engine, gfpgan_visibility=1.0)
    assert len(kept(engine)) == 1
    engine.settings.update({"face_restoration_unload": True})
    try:
        restored(engine, gfpgan_visibility=1.0)
        assert kept(engine) == []
        overrides = {"face_restoration_model": "GFPGAN"}
        generate.run(engine, engine.plan(request(restore_faces=True, overrides=overrides)), JobContext.alone())
        assert kept(engine) == []
    finally:
        engine.settings.update({"face_restoration_unload": False})


def test_a_picture_without_a_face_stays_and_that_is_told(engine: Engine) -> None:
    """One smaller than any face; the others of the batch are worked on."""
    sources = [PictureSource(f"{n}.png", encode_image(GREY.crop((0, 0, n, n)), "png", None)) for n in (1, 8, 64)]
    asked = ExtrasRequest(sources=tuple(sources), save=False, gfpgan_visibility=1.0)
    result = extras.run(engine, make_extras_plan(asked, engine.settings.snapshot(), engine.choices), JobContext.alone())
    assert [image.width for image in result.images] == [1, 8, 64]
    told = "GFPGAN found no face and changed nothing."
    assert result.comments == (f"1.png: {told}", f"8.png: {told}")


def test_fifty_faces_are_restored_and_the_rest_is_as_it_was() -> None:
    image = Image.new("RGB", (1000, 500), (90, 90, 90))
    faces = [face_at(50 + 100 * (n % 10), 50 + 100 * (n // 10), 0.1) for n in range(50)]
    made = np.asarray(with_restored_faces(image, faces, lambda crop: Image.new("RGB", (512, 512), "red")))
    for n in range(50):
        assert (made[50 + 100 * (n // 10), 50 + 100 * (n % 10)] == (255, 0, 0)).all()
        assert (made[5 + 100 * (n // 10), 5 + 100 * (n % 10)] == 90).all()


@pytest.mark.parametrize(("file", "words"), [("GFPGAN/GFPGANv1.4.safetensors", "GFPGANv1.4"), ("mtcnn", "mtcnn-rnet")])
def test_damaged_files_are_told_and_a_batch_goes_on(tmp_path: Path, file: str, words: str) -> None:
    models = tmp_path / "models"
    random_detector(models)
    reddening(models / "GFPGAN" / "GFPGANv1.4.safetensors")
    path = FACE_DETECTOR[1].path(models) if file == "mtcnn" else models / file
    path.write_bytes(path.read_bytes()[:500])
    services = build_services(parse_flags(["--data-dir", str(tmp_path), "--device", "cpu"], {})[0])
    engine = build(services)
    try:
        sources = tuple(PictureSource(f"{n}.png", encode_image(GREY, "png", None)) for n in range(2))
        asked = ExtrasRequest(sources=sources, save=False, gfpgan_visibility=1.0)
        plan = make_extras_plan(asked, engine.settings.snapshot(), engine.choices)
        result = extras.run(engine, plan, JobContext.alone())
        assert [comment.split(":")[0] for comment in result.comments] == ["0.png", "1.png"]
        assert all(words in comment and "\n" not in comment for comment in result.comments)
        alone = make_extras_plan(asked.replace(sources=sources[:1]), plan.settings, engine.choices)
        with pytest.raises(BadModelFile, match=words):
            extras.run(engine, alone, JobContext.alone())
    finally:
        services.checkpoints.close()


def request(**values: object) -> GenerationRequest:
    return GenerationRequest(prompt="x", seed=1, steps=1, width=64, height=64, save_samples=True, **values)


def test_generating_restores_faces_by_request_or_setting(engine: Engine) -> None:
    overrides = {"face_restoration_model": "GFPGAN", "save_images_before_face_restoration": True}
    plain = generate.run(engine, engine.plan(request()), JobContext.alone())
    made = generate.run(engine, engine.plan(request(restore_faces=True, overrides=overrides)), JobContext.alone())
    assert "Face restoration: GFPGAN" in made.images[0].infotext
    assert "Face restoration" not in plain.images[0].infotext
    assert made.images[0].data != plain.images[0].data
    before = list(engine.paths.outputs.rglob("*-before-face-restoration.png"))
    assert len(before) == 1
    with Image.open(before[0]) as kept, Image.open(io.BytesIO(plain.images[0].data)) as expected:
        assert kept.tobytes() == expected.tobytes()
    by_setting = generate.run(
        engine, engine.plan(request(overrides={**overrides, "face_restoration": True})), JobContext.alone()
    )
    assert "Face restoration: GFPGAN" in by_setting.images[0].infotext
    off = generate.run(
        engine,
        engine.plan(request(restore_faces=False, overrides={**overrides, "face_restoration": True})),
        JobContext.alone(),
    )
    assert "Face restoration: GFPGAN" not in off.images[0].infotext


def test_a_missing_file_is_told_and_the_picture_made(engine: Engine) -> None:
    made = generate.run(engine, engine.plan(request(restore_faces=True)), JobContext.alone())
    assert len(made.images) == 1
    assert any("Faces were not restored. CodeFormer has no file here" in comment for comment in made.comments)
    assert "Face restoration: " not in made.images[0].infotext


@pytest.mark.slow
def test_the_real_detector_finds_the_face_of_a_photograph(tmp_path: Path) -> None:
    data = pytest.importorskip("skimage.data")
    try:
        files = install_weights(FACE_DETECTOR, tmp_path / "models", tmp_path / "tmp")
    except Unreachable as error:
        pytest.skip(str(error))
    faces = FaceDetector(files, torch.device("cpu")).find(data.astronaut())
    assert len(faces) == 1
    assert np.allclose(faces[0].box, (181.05, 62.16, 267.75, 172.05), atol=0.1)  # by facenet-pytorch 2.6.0 itself
    assert np.allclose(faces[0].points[[0, 1, 4]], [[205.01, 101.73], [246.76, 103.71], [245.27, 141.86]], atol=0.1)
