"""The numbers of a swap: alignment, latent, mask, detection, on networks whose answers are known."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from extensions.faceswap.analysis import Analyser, Roles, detected, roles_in
from extensions.faceswap.face_models import MEAN, MEDIAN, MODE, blended, load, names_in, save
from extensions.faceswap.faces import Face, chosen, nearest_to_centre
from extensions.faceswap.geometry import alignment, cropped, face_mask, inverse, pasted
from extensions.faceswap.masks import Masking, cover
from extensions.faceswap.onnx_file import read_head, read_last_tensor
from extensions.faceswap.sessions import Networks, open_session
from extensions.faceswap.swapper import Manner, Swapper, swap_face
from tests.extensions.faceswap import standins
from tests.extensions.faceswap.standins import Hit, tint
from webui.core.errors import BadModelFile, InvalidRequest, NotFound

POINTS = np.array([(200, 220), (280, 222), (240, 270), (208, 310), (272, 312)], float)
M128 = [[0.449239, 0.007314, -45.742593], [-0.007314, 0.449239, -46.200820]]


class Shelf:
    """Lends without a budget."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}

    @contextmanager
    def borrow(self, key: Any, load: Any, bytes: int) -> Any:
        if key not in self.kept:
            self.kept[key] = load()
        yield self.kept[key]


@pytest.fixture
def networks() -> Networks:
    return Networks(Shelf())


def face(box: tuple[float, ...] = (0, 0, 10, 10), score: float = 0.9, **more: Any) -> Face:
    return Face(np.array(box, np.float32), np.zeros((5, 2), np.float32), score, **more)


@pytest.mark.parametrize(
    ("side", "wanted"),
    [
        (112, [[0.449239, 0.007314, -53.742593], [-0.007314, 0.449239, -46.200820]]),
        (128, M128),
        (256, [[0.898478, 0.014628, -91.485185], [-0.014628, 0.898478, -92.401640]]),
    ],
)
def test_five_points_give_the_matrix(side: int, wanted: list[list[float]]) -> None:
    np.testing.assert_allclose(alignment(POINTS, side), wanted, atol=1e-5)


def test_the_mask_is_drawn_in_and_softened() -> None:
    matrix = alignment(POINTS, 128)
    np.testing.assert_allclose(
        inverse(matrix), [[2.225397, -0.036232, 100.121481], [0.036232, 2.225397, 104.472476]], atol=1e-5
    )
    mask = face_mask(matrix, (512, 512), 128)
    assert all(mask[int(y), int(x)] == pytest.approx(1) for x, y in POINTS)
    assert mask.sum() == pytest.approx(66739, abs=2)


@pytest.mark.parametrize("shift", [(0, 0), (-170, -150), (200, 170)])
def test_a_face_at_the_edge_is_laid_back_as_over_the_whole_picture(shift: tuple[int, int]) -> None:
    """Only the part around the face is computed; it is what the whole picture would give."""
    pixels = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    matrix = alignment(POINTS + shift, 128)
    crop = np.full((128, 128, 3), 200, np.uint8)
    mask = face_mask(matrix, (512, 512), 128)[..., None]
    import cv2

    laid = cv2.warpAffine(crop, inverse(matrix), (512, 512), borderValue=0.0)
    whole = (mask * laid + (1 - mask) * pixels.astype(np.float32)).astype(np.uint8)
    found = pasted(pixels, crop, matrix)
    assert np.abs(found.astype(int) - whole).max() <= 1
    assert (found[mask[..., 0] == 0] == pixels[mask[..., 0] == 0]).all()


def test_a_face_outside_of_the_picture_changes_nothing() -> None:
    pixels = np.full((64, 64, 3), 9, np.uint8)
    assert (pasted(pixels, np.zeros((128, 128, 3), np.uint8), alignment(POINTS + 5000, 128)) == 9).all()


def test_the_head_is_read_as_onnx_reads_it(tmp_path: Path) -> None:
    path = standins.swapper(tmp_path, np.arange(512 * 512, dtype=np.float32).reshape(512, 512))
    model = onnx.load(path)
    head = read_head(path)
    assert head.inputs == {"target": (1, 3, 128, 128), "source": (1, 512)}
    assert head.outputs == {"output": (1, 3, 128, 128)}
    np.testing.assert_array_equal(read_last_tensor(path), numpy_helper.to_array(model.graph.initializer[-1]))


@pytest.mark.parametrize("content", [b"", b"x", b"\x3a\x05abc", b"\x3a\x03\x2a\x7f\x08", bytes(5000), b"\xff" * 99])
def test_what_is_no_onnx_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=r"bad\.onnx"):
        read_last_tensor(path)
    with pytest.raises(BadModelFile, match=r"bad\.onnx"):
        open_session(path, "CPU")


def test_the_latent_follows_the_map(tmp_path: Path, networks: Networks) -> None:
    embedding = np.random.default_rng(2).normal(size=512).astype(np.float32) * 7
    unit = embedding / np.linalg.norm(embedding)
    order = np.random.default_rng(3).permutation(512)

    def latent(emap: np.ndarray, name: str) -> np.ndarray:
        with networks.lent(standins.swapper(tmp_path, emap.astype(np.float32), name), Swapper.made_of) as swapper:
            return swapper.latent(embedding)

    np.testing.assert_allclose(latent(np.eye(512), "a.onnx")[0], unit, atol=1e-6)
    np.testing.assert_allclose(latent(2 * np.eye(512), "b.onnx")[0], unit, atol=1e-6)
    np.testing.assert_allclose(latent(np.eye(512)[:, order], "c.onnx")[0], unit[order], atol=1e-6)


@pytest.mark.parametrize("side", [128, 256, 512])
def test_a_swap_tints_the_face_and_nothing_else(tmp_path: Path, networks: Networks, side: int) -> None:
    pixels = np.zeros((512, 512, 3), np.uint8)
    pixels[::2] = 60
    embedding = np.random.default_rng(2).normal(size=512).astype(np.float32)
    target = Face(np.array((180, 190, 300, 340), np.float32), POINTS.astype(np.float32), 1.0)
    with networks.lent(standins.swapper(tmp_path), Swapper.made_of) as swapper:
        made = swap_face(pixels, target, embedding, swapper, Manner(side, False, Masking()))
        wanted = tint(swapper.latent(embedding)) * 255
    mask = face_mask(alignment(POINTS, side), (512, 512), side)
    assert (made[mask == 0] == pixels[mask == 0]).all()
    inside = made[255:285, 225:255].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(inside, wanted + 15, atol=2)  # half of what was there, 30 on the average


def test_the_detector_is_read_by_steps_and_cells(tmp_path: Path, networks: Networks) -> None:
    path = standins.detector(tmp_path)
    with networks.session(path) as session:
        (found,) = detected(session, np.zeros((640, 640, 3), np.uint8), 0.5, 640, "d")
        np.testing.assert_allclose(found.box, (280, 192, 360, 288), atol=1e-4)
        wanted = [(304, 224), (336, 224), (320, 240), (308, 264), (332, 264)]
        np.testing.assert_allclose(found.points, wanted, atol=1e-4)
        (doubled,) = detected(session, np.zeros((640, 1280, 3), np.uint8), 0.5, 640, "d")
        np.testing.assert_allclose(doubled.box, 2 * found.box, atol=1e-4)
        assert detected(session, np.zeros((640, 640, 3), np.uint8), 0.95, 640, "d") == []
        assert len(detected(session, np.zeros((1, 1, 3), np.uint8), 0.5, 640, "d")) == 1


def test_overlapping_hits_are_one_face_and_most_is_heeded(tmp_path: Path, networks: Networks) -> None:
    hits = (Hit(30, 40), Hit(30, 41, score=0.95), Hit(30, 10, (4, 4)), Hit(60, 70, (3, 3)))
    roles = Roles(standins.detector(tmp_path, hits))
    analyser = Analyser(networks, roles, lambda pixels: [])
    pixels = np.zeros((640, 640, 3), np.uint8)
    found = analyser.find(pixels, 0.5, 0)
    assert sorted(round(float(item.box[0])) for item in found) == [48, 288, 536]
    assert [round(float(item.box[0])) for item in analyser.find(pixels, 0.5, 1)] == [288]


def test_files_of_a_pack_are_told_apart_by_what_they_take(tmp_path: Path) -> None:
    standins.all_of_them(tmp_path)
    pack = tmp_path / "insightface" / "models" / "buffalo_l"
    for number, file in enumerate(sorted(pack.glob("*.onnx"))):
        file.rename(pack / f"{number}.onnx")
    roles = roles_in(tmp_path)
    assert None not in (roles.detector, roles.recogniser, roles.genderage)
    assert roles_in(tmp_path / "nothing") == Roles()


def test_orders_and_genders_count_among_those_that_fit() -> None:
    small, large = face((50, 5, 60, 15), gender=0), face((20, 30, 60, 70), gender=1)
    top = face((90, 0, 120, 30), gender=0)
    faces = [large, top, small]
    assert chosen(faces, "No", "left-right") == [large, small, top]
    assert chosen(faces, "No", "right-left") == [top, small, large]
    assert chosen(faces, "No", "top-bottom") == [top, small, large]
    assert chosen(faces, "No", "bottom-top") == [large, small, top]
    assert chosen(faces, "No", "large-small") == [large, top, small]
    assert chosen(faces, "No", "small-large") == [small, top, large]
    assert chosen(faces, "Female Only", "left-right") == [small, top]
    assert chosen(faces, "Male Only", "left-right") == [large]
    twins = [face(score=0.7), face(score=0.8)]
    assert [item.score for item in chosen(twins, "No", "left-right")] == [0.8, 0.7]
    assert nearest_to_centre(faces, 0, (130, 80)) == faces
    assert nearest_to_centre(faces, 1, (80, 100)) == [large]


def described(*values: float) -> Face:
    return face(embedding=np.resize(np.array(values, np.float32), 512), gender=1, age=40)


def test_blended_embeddings() -> None:
    several = [described(1, 5), described(2, 5), described(6, 1)]
    for method, wanted in ((MEAN, (3, 11 / 3)), (MEDIAN, (2, 5)), (MODE, (1, 5))):
        made = blended(several, method)
        assert made.embedding is not None
        np.testing.assert_allclose(made.embedding[:2], wanted, rtol=1e-6)
        assert made.age == 40
    with pytest.raises(InvalidRequest):
        blended([], MEAN)


def test_a_face_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    given = described(1, 2, 3)
    path = save(tmp_path, "Jo 1", given)
    assert (path.name, names_in(tmp_path)) == ("Jo 1.safetensors", ["Jo 1"])
    from safetensors.numpy import load_file

    assert {name: array.shape for name, array in load_file(path).items()} == {
        "bbox": (4,), "kps": (5, 2), "det_score": (), "landmark_3d_68": (68, 3), "pose": (3,),
        "landmark_2d_106": (106, 2), "embedding": (512,), "gender": (), "age": (),
    }  # fmt: skip
    again = load(tmp_path, "Jo 1.safetensors")
    np.testing.assert_array_equal(again.embedding, given.embedding)
    assert (again.gender, again.age, again.described) == (1, 40, "male, 40")


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "x" * 200, "a\0b"])
def test_names_that_no_face_model_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        save(tmp_path, name, described(1))
    with pytest.raises(NotFound):
        load(tmp_path, name)


def test_a_damaged_face_model_is_named(tmp_path: Path) -> None:
    save(tmp_path, "a", described(1)).write_bytes(b"nothing")
    with pytest.raises(BadModelFile, match=r"a\.safetensors"):
        load(tmp_path, "a")


def test_a_cover_over_the_face_is_found_and_features_are_not() -> None:
    crop = np.full((128, 128, 3), (205, 160, 135), np.uint8)
    noise = np.random.default_rng(0).normal(0, 4, crop.shape)
    crop = (crop + noise).clip(0, 255).astype(np.uint8)
    plain = cover(crop)
    assert plain.mean() < 0.01
    crop[44:54, 40:54] = (40, 30, 30)  # an eye
    assert cover(crop)[49, 47] == 0
    crop[:, 86:] = (30, 160, 60)
    covered = cover(crop)
    assert (covered[64, 110], covered[64, 64]) == (1, 0)
    mask = Masking(shape=True, covered=True).mask(crop, face(), np.eye(2, 3))
    assert mask is not None
    assert (mask[64, 110], mask[70, 64]) == (0, 1)


def test_a_crop_is_cut_as_the_matrix_says() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    shift = np.array([[1.0, 0, -30], [0, 1, -40]])
    assert (cropped(pixels, shift, 64) == pixels[40:104, 30:94]).all()
