"""Preprocessors with networks, over HTTP with the worker running; random weights in the true layouts of their files."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.api.server import serving_extensions
from tests.fileserver import Reply, file_server
from webui.core.flags import parse_flags
from webui.core.packaged import Fetchable, find_fetchable
from webui.net.egress import Unreachable
from webui.services.building import build_services
from webui.services.packaged import install_weights
from webui.services.services import Services

torch = pytest.importorskip("torch")
pytest.importorskip("controlnet_aux")

from extensions.controlnet import maps  # noqa: E402
from extensions.controlnet.preprocessors import palettes, poses  # noqa: E402
from extensions.controlnet.preprocessors.detectors import segmentation  # noqa: E402
from extensions.controlnet.preprocessors.registry import PREPROCESSORS  # noqa: E402
from extensions.controlnet.preprocessors.weights import with_weights  # noqa: E402
from extensions.controlnet.units import Unit  # noqa: E402
from tests.extensions.controlnet import annotators  # noqa: E402
from tests.extensions.controlnet.annotators import scene  # noqa: E402
from tests.extensions.controlnet.onnx_files import constant_network  # noqa: E402
from webui.models.manager import ModelManager  # noqa: E402

Picture = Any
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another install."""
    folder = tmp_path_factory.mktemp("a1111")
    (folder / "models" / "ControlNet").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, elsewhere: Path) -> Iterator[Services]:
    data = tmp_path_factory.mktemp("preprocessors")
    flags, _ = parse_flags(["--data-dir", str(data), "--device", "cpu", "--extra-models-dir", str(elsewhere)], {})
    services = build_services(flags)
    services.jobs.start()
    yield services
    assert services.jobs.close(timeout=120)
    services.checkpoints.close()


@pytest.fixture(scope="module")
def folder(services: Services) -> Path:
    return services.paths.models / "ControlNet" / "preprocessors"


@pytest.fixture(scope="module")
def url(services: Services) -> Iterator[str]:
    with serving_extensions(services) as address:
        yield address


@pytest.fixture(scope="module")
def ask(url: str) -> Ask:
    def ask(module: str, picture: Picture, status: int = 200, **more: Any) -> dict[str, Any]:
        body = {"controlnet_module": module, "controlnet_input_images": [encoded(picture)], **more}
        answer = httpx.post(f"{url}/controlnet/detect", json=body, timeout=300)
        assert answer.status_code == status, answer.text
        content: dict[str, Any] = answer.json()
        return content

    return ask


def encoded(picture: Picture) -> str:
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def map_of(content: dict[str, Any]) -> Picture:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content["images"][0]))))


def sized(**sliders: float) -> dict[str, float]:
    return {"controlnet_processor_res": 64} | {f"controlnet_{name}": value for name, value in sliders.items()}


NETWORKS = [
    ("hed", ["ControlNetHED.pth"]),
    ("pidinet", ["table5_pidinet.pth"]),
    ("softedge_teed", ["7_model.pth"]),
    ("softedge_anyline", ["MTEED.pth"]),
    ("mlsd", ["mlsd_large_512_fp32.pth"]),
    ("lineart_realistic", ["sk_model.pth"]),
    ("lineart_coarse", ["sk_model2.pth"]),
    ("lineart_anime_denoise", ["erika.pth"]),
    ("depth_anything", ["depth_anything_vitl14.pth"]),
    ("depth_anything_v2", ["depth_anything_v2_vitl.safetensors"]),
    ("lineart_anime", ["netG.pth"]),
    pytest.param("depth_midas", ["dpt_hybrid-midas-501f0c75.pt"], marks=pytest.mark.slow),
    pytest.param("depth_leres", ["res101.pth"], marks=pytest.mark.slow),
    pytest.param("depth_leres++", ["res101.pth", "latest_net_G.pth"], marks=pytest.mark.slow),
    pytest.param("normal_bae", ["scannet.pt"], marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize(("module", "files"), NETWORKS)
def test_a_map_has_the_picture_s_shape_at_the_resolution(ask: Ask, folder: Path, module: str, files: list[str]) -> None:
    for name in files:
        annotators.written(folder, name)
    found = map_of(ask(module, scene(150, 100), **sized()))
    assert (found.shape, found.dtype) == ((64, 96, 3), np.uint8)
    assert map_of(ask(module, scene(150, 100), controlnet_processor_res=128)).shape == (128, 192, 3)
    if module != "normal_bae":
        assert (found == found[:, :, :1]).all()  # grey
    assert found.min() < found.max()


def test_safe_edges_have_three_levels_and_scribbles_two(ask: Ask, folder: Path) -> None:
    annotators.written(folder, "ControlNetHED.pth")
    annotators.written(folder, "table5_pidinet.pth")
    for safe, scribble in (("hed_safe", "scribble_hed"), ("pidinet_safe", "pidinet_scribble")):
        assert set(np.unique(map_of(ask(safe, scene(150, 100), **sized())))) <= {0, 127, 255}
        assert set(np.unique(map_of(ask(scribble, scene(150, 100), **sized())))) <= {0, 255}
    assert set(np.unique(map_of(ask("pidinet_sketch", scene(150, 100), **sized())))) <= {0, 255}


def test_sliders_have_their_effect(ask: Ask, folder: Path) -> None:
    for name in ("mlsd_large_512_fp32.pth", "7_model.pth", "MTEED.pth"):
        annotators.written(folder, name)
    picture = scene(150, 100)
    drawn = [
        int((map_of(ask("mlsd", picture, **sized(threshold_a=score, threshold_b=distance))) > 0).sum())
        for score, distance in ((0.1, 0.01), (2.0, 0.01), (0.1, 20.0))
    ]
    assert drawn[0] > max(drawn[1:])
    for module in ("softedge_teed", "softedge_anyline"):
        smooth, stepped = (map_of(ask(module, picture, **sized(threshold_a=steps))) for steps in (0, 1))
        assert (smooth != stepped).any()
    assert len(np.unique(map_of(ask("softedge_teed", picture, **sized(threshold_a=1))))) <= 2


@pytest.mark.slow
def test_sliders_of_depth_and_normals_have_their_effect(ask: Ask, folder: Path) -> None:
    for name in ("dpt_hybrid-midas-501f0c75.pt", "res101.pth"):
        annotators.written(folder, name)
    picture = scene(150, 100)
    near, far = (
        map_of(ask("depth_leres", picture, **sized(threshold_a=a, threshold_b=b))) for a, b in ((50, 0), (0, 50))
    )
    assert not (
        (near < 255) & (near > 128)
    ).any()  # the near half is as near as can be, since it was cut before turning
    assert not ((far > 0) & (far < 127)).any()
    all_flat, none_flat = (map_of(ask("normal_midas", picture, **sized(threshold_a=level))) for level in (1.0, 0.01))
    assert (all_flat[:, :, 1] == 127).mean() > 0.9
    assert (none_flat != all_flat).any()


@pytest.mark.parametrize(("module", "kind"), [("seg_ofade20k", "oneformer"), ("seg_ufade20k", "upernet")])
def test_segmentations_have_the_palette_s_colours(ask: Ask, folder: Path, module: str, kind: str) -> None:
    name = {"oneformer": "oneformer_ade20k_swin_large", "upernet": "upernet-convnext-small"}[kind]
    annotators.segmenter(folder / name, kind)
    found = map_of(ask(module, scene(150, 100), **sized()))
    assert found.shape == (64, 96, 3)
    assert {tuple(colour) for colour in found.reshape(-1, 3)} <= {tuple(colour) for colour in palettes.ADE20K}


def test_mobile_sam_is_read(folder: Path) -> None:
    file = annotators.written(folder, "mobile_sam.pt")
    found = segmentation.load_sam((file,), "cpu", points=1)(scene(96, 64), 0, 0)
    assert (found.shape, found.dtype) == ((64, 96, 3), np.uint8)


def test_palettes_are_complete() -> None:
    from controlnet_aux.util import ade_palette

    assert palettes.ADE20K.tolist() == ade_palette()
    assert len({tuple(colour) for colour in palettes.COCO}) == 133


def test_lama_fills_what_the_mask_covers_and_nothing_else(ask: Ask, folder: Path) -> None:
    annotators.written(folder, "ControlNetLama.pth")
    picture, mask = scene(150, 100), np.zeros((100, 150, 3), np.uint8)
    mask[30:60, 40:90] = 255
    found = map_of(ask("inpaint_only+lama", picture, controlnet_masks=[encoded(mask)]))
    assert found.shape == (100, 150, 4)
    assert (found[:, :, :3][mask[:, :, 0] == 0] == picture[mask[:, :, 0] == 0]).all()
    assert (found[30:60, 40:90, :3] != picture[30:60, 40:90]).mean() > 0.5
    assert set(np.unique(found[30:60, 40:90, 3])) == {128}
    assert "mask" in ask("inpaint_only+lama", picture, 422)["detail"]


def test_openpose_s_networks_are_read(ask: Ask, folder: Path) -> None:
    for name in ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"):
        annotators.written(folder, name)
    for module in ("openpose_full", "openpose_faceonly"):
        found = ask(module, scene(150, 100), **sized())
        assert not map_of(found).any()  # random networks see nobody
        assert found["poses"] == [{"people": [], "animals": [], "canvas_width": 96, "canvas_height": 64}]
    for name in ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth"):
        (folder / name).unlink()


def test_people_by_the_network_that_ships(ask: Ask) -> None:
    data = pytest.importorskip("skimage.data")
    astronaut = data.astronaut()
    found = ask("openpose", np.hstack([astronaut, astronaut[:, ::-1]]), controlnet_processor_res=512)
    (pose,) = found["poses"]
    assert (pose["canvas_width"], pose["canvas_height"]) == (1024, 512)
    noses = sorted(person["pose_keypoints_2d"][:2] for person in pose["people"])
    assert np.allclose(noses, [[221, 120], [802, 120]], atol=25)  # where they are in the picture
    assert (poses.draw_poses(pose) == map_of(found)).all()
    assert map_of(found).any()


def test_people_and_animals_by_boxes_and_keypoints(ask: Ask, folder: Path) -> None:
    cells = np.zeros((1, 8400, 85), np.float32)
    # The cell of stride 32 at column 10, row 10: a person around (320, 320) of 640, 320 pixels wide and 384 tall.
    cells[0, 6400 + 1600 + 10 * 20 + 10, :6] = (0, 0, np.log(10), np.log(12), 0.9, 0.9)
    cells[0, 6400 + 1600 + 10 * 20 + 11, :6] = (-1, 0, np.log(10), np.log(12), 0.8, 0.8)  # the same one again
    cells[0, 6400 + 1600 + 5 * 20 + 5, [2, 3, 4, 5 + 16]] = (np.log(4), np.log(4), 0.9, 0.9)  # a dog
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "yolox_l.onnx").write_bytes(constant_network((1, 3, 640, 640), {"boxes": cells}))
    across, down = np.zeros((1, 133, 576), np.float32), np.zeros((1, 133, 768), np.float32)
    across[0, :, 288], down[0, :, 384] = 0.9, 0.9  # everything in the middle
    across[0, 3, 288] = 0.1  # an ear that isn't sure
    points = constant_network((1, 3, 384, 288), {"x": across, "y": down})
    (folder / "dw-ll_ucoco_384.onnx").write_bytes(points)
    found = ask("dw_openpose_full", scene(640, 640), controlnet_processor_res=640)
    ((person,), animals) = found["poses"][0]["people"], found["poses"][0]["animals"]
    assert animals == []
    body = np.array(person["pose_keypoints_2d"]).reshape(18, 3)
    assert np.allclose(body[:17, :2], 320, atol=1)
    assert body[17].tolist() == [0, 0, 0]
    assert [len(person[f"{part}_keypoints_2d"]) // 3 for part in ("face", "hand_left", "hand_right")] == [70, 21, 21]
    assert (poses.draw_poses(found["poses"][0]) == map_of(found)).all()
    across, down = (np.zeros((1, 17, 512), np.float32) for _ in range(2))
    across[0, :, 0], down[0, :, 0] = 0.9, 0.9  # the upper left corner of the box
    (folder / "rtmpose-m_ap10k_256.onnx").write_bytes(constant_network((1, 3, 256, 256), {"x": across, "y": down}))
    (dog,) = ask("animal_openpose", scene(640, 640), controlnet_processor_res=640)["poses"][0]["animals"]
    assert np.allclose(np.array(dog).reshape(17, 3)[:, :2], 160 - 64 * 1.25, atol=1)


def test_missing_files_are_told_with_size_licence_and_what_to_do(ask: Ask) -> None:
    told = ask("depth_zoe", scene(64, 64), 422)["detail"]
    for words in ("ZoeD_M12_N.pt", "1,443.4 MB", "huggingface.co", "MIT", "Fetch weights", "ControlNet/preprocessors"):
        assert words in told
    assert "can't run yet" in ask("densepose", scene(64, 64), 422)["detail"]


def test_everything_with_files_can_be_fetched(services: Services) -> None:
    names = [known.name for known in services.choices.all(Fetchable) if known.name.startswith("ControlNet: ")]
    for label in ("softedge_hed, ", "depth_zoe", "openpose_full", "dw_openpose_full", "seg_ofcoco", "by its authors"):
        assert any(label in name for name in names)
    assert len(set(names)) == len(names)


def test_the_manual_s_table_is_the_registry_s() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "controlnet.md").read_text(encoding="utf-8")
    rows = [line for line in manual.splitlines() if line.startswith("|") and "`" in line]
    told = {row.split("|")[2].strip(" `"): [cell.strip() for cell in row.split("|")] for row in rows}
    users: dict[str, set[str]] = {}
    for preprocessor in PREPROCESSORS:
        for file in preprocessor.needs:
            users.setdefault(file.name, set()).add(preprocessor.label)
            assert told[file.name][3:5] == [f"{file.megabytes:,.1f} MB", file.licence]
    assert {name: set(cells[1].split(", ")) for name, cells in told.items()} == users


def test_what_is_fetched_from_the_hub_is_used(services: Services, ask: Ask, folder: Path, tmp_path: Path) -> None:
    known = find_fetchable("ControlNet: softedge_anyline", services.choices.all(Fetchable))
    own = annotators.written(folder, "MTEED.pth")
    expected = map_of(ask("softedge_anyline", scene(150, 100), **sized()))
    content = own.read_bytes()
    own.unlink()
    assert "MTEED.pth (0.3 MB from huggingface.co, OpenRAIL++)" in ask("softedge_anyline", scene(8, 8), 422)["detail"]
    with file_server() as hub:
        item = {"type": "file", "path": "Anyline/MTEED.pth", "size": len(content)}
        tree = [item | {"lfs": {"oid": hashlib.sha256(content).hexdigest()}}]
        hub.replies["/api/models/TheMistoAI/MistoLine/tree/main/Anyline"] = Reply(json.dumps(tree).encode())
        hub.replies["/TheMistoAI/MistoLine/resolve/main/Anyline/MTEED.pth"] = Reply(content)
        install_weights(known.files, services.paths.models, services.paths.tmp, hub.egress())
    assert own.read_bytes() == content
    assert (map_of(ask("softedge_anyline", scene(150, 100), **sized())) == expected).all()


@pytest.mark.slow
def test_edges_of_a_photograph_by_hed_s_own_weights(services: Services, ask: Ask, folder: Path) -> None:
    astronaut = pytest.importorskip("skimage.data").astronaut()
    known = find_fetchable("ControlNet: softedge_hed, by its authors", services.choices.all(Fetchable))
    kept = folder / "ControlNetHED.pth"
    if kept.exists():
        kept.rename(folder / "kept")
    try:
        install_weights(known.files, services.paths.models, services.paths.tmp)
        found = map_of(ask("hed", astronaut, controlnet_processor_res=512))[:, :, 0]
        levels = set(np.unique(map_of(ask("hed_safe", astronaut, controlnet_processor_res=512))))
    except Unreachable as error:
        pytest.skip(str(error))
    finally:
        if (folder / "kept").exists():
            (folder / "kept").rename(kept)
    assert found[10:50, 300:370].mean() < 20  # the wall
    assert found[345:365, 300:450].max(axis=0).mean() > 200  # the helmet's upper edge
    assert found[100:300, 395:400].mean() > 5 * found[150:250, 330:360].mean()  # the rocket's right edge, and the wall
    assert levels == {0, 127, 255}


def test_files_of_another_install_are_found(ask: Ask, folder: Path, elsewhere: Path) -> None:
    theirs = elsewhere / "extensions" / "sd-webui-controlnet" / "annotator" / "downloads" / "pidinet"
    own = annotators.written(folder, "table5_pidinet.pth")
    expected = map_of(ask("pidinet", scene(150, 100), **sized()))
    theirs.mkdir(parents=True)
    own.rename(theirs / own.name)
    try:
        assert (map_of(ask("pidinet", scene(150, 100), **sized())) == expected).all()
    finally:
        (theirs / own.name).rename(own)


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04 broken", "another"])
def test_a_file_that_is_not_what_it_should_be_is_told(ask: Ask, folder: Path, content: bytes | str) -> None:
    path = folder / "sk_model2.pth"
    kept = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(annotators.written(folder, "7_model.pth").read_bytes() if isinstance(content, str) else content)
    try:
        answer = ask("lineart_coarse", scene(64, 64), 422)
        assert "sk_model2.pth" in answer["detail"]
        assert "Traceback" not in answer["detail"]
    finally:
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)


@pytest.fixture
def models(services: Services) -> ModelManager:
    """One of the test's own, since the worker's is its engine's."""
    return ModelManager(services.checkpoints, services.flags)


def unit_of(services: Services, module: str, picture: Picture, **more: Any) -> Unit:
    unit = Unit(enabled=True, module=module, image=base64.b64decode(encoded(picture)), processor_res=64, **more)
    found: Unit = with_weights(unit, services.host.easel)
    return found


def test_networks_are_lent_within_the_memory_budget(services: Services, models: ModelManager, folder: Path) -> None:
    file = annotators.written(folder, "7_model.pth")
    for side in (64, 72):
        unit = unit_of(services, "softedge_teed", scene(side, side))
        maps.detect(unit, maps.read_input(unit, 0, None), maps.Request(64, 64), models)
    (loaded,) = [item for item in models.peek() if "load_teed" in item.name]
    assert loaded.bytes == file.stat().st_size
    models.unload()
    assert models.peek() == ()


def test_a_map_is_made_once_for_a_picture_and_its_sliders(
    services: Services, models: ModelManager, folder: Path
) -> None:
    annotators.written(folder, "7_model.pth")

    def made(picture: Picture, **more: Any) -> Picture:
        unit = unit_of(services, "softedge_teed", picture, **more)
        return maps.detect(unit, maps.read_input(unit, 0, None), maps.Request(64, 64), models).map

    first = made(scene(64, 64))
    assert made(scene(64, 64)) is first
    assert made(scene(64, 64), threshold_a=5) is not first
    assert made(scene(64, 64)[::-1]) is not first
    assert made(scene(64, 64)) is first
    for number in range(maps.KeptMaps.MOST):
        made(np.full((64, 64, 3), number, np.uint8))
    assert made(scene(64, 64)) is not first
    assert (made(scene(64, 64)) == first).all()


def kinds_of_pictures() -> dict[str, Image.Image]:
    colours = Image.fromarray(scene(96, 64))
    palette = colours.quantize(16)
    clear = palette.copy()
    clear.info["transparency"] = 3
    deep = Image.fromarray(np.asarray(colours.convert("L")).astype(np.uint16) * 257)
    return {
        "palette": palette,
        "transparent palette": clear,
        "alpha": colours.convert("RGBA"),
        "grey": colours.convert("L"),
        "grey and alpha": colours.convert("LA"),
        "bits": colours.convert("1"),
        "16 bits": deep,
        "8 pixels": colours.resize((8, 8)),
        "1 pixel": colours.resize((1, 1)),
        "narrow": colours.resize((8, 512)),
    }


@pytest.mark.parametrize("kind", kinds_of_pictures())
def test_every_kind_of_picture_is_read(ask: Ask, folder: Path, kind: str) -> None:
    annotators.written(folder, "7_model.pth")
    picture = kinds_of_pictures()[kind]
    for module in ("softedge_teed", "canny", "openpose"):
        found = map_of(ask(module, picture, **sized()))
        short, long = min(picture.size), max(picture.size)
        assert found.ndim == 3
        assert sorted(found.shape[:2]) == [64, round(long * 64 / short)]


def test_16_bits_and_grey_give_the_map_of_the_same_picture(ask: Ask, folder: Path) -> None:
    annotators.written(folder, "7_model.pth")
    kinds = kinds_of_pictures()
    grey, deep = (map_of(ask("softedge_teed", kinds[kind], **sized(threshold_a=0))) for kind in ("grey", "16 bits"))
    assert (grey == deep).all()
    empty = Image.new("RGBA", (64, 64), (10, 200, 30, 0))
    white = Image.new("RGB", (64, 64), "white")
    clear, plain = (map_of(ask("softedge_teed", item, **sized(threshold_a=0))) for item in (empty, white))
    assert (clear == plain).all()  # what is transparent is white


def test_a_picture_too_narrow_for_its_resolution_is_told(ask: Ask) -> None:
    told = ask("canny", np.zeros((8, 8192, 3), np.uint8), 422, controlnet_processor_res=1024)["detail"]
    assert "8192 x 8" in told
    assert "resolution of 1024" in told


def test_the_largest_picture_is_shrunk_first(ask: Ask, folder: Path) -> None:
    annotators.written(folder, "7_model.pth")
    found = map_of(ask("softedge_teed", np.full((8192, 8192, 3), 90, np.uint8), **sized()))
    assert found.shape == (64, 64, 3)
