"""Faces turned upright, restored and laid back; a CodeFormer of small width in the true layout."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from webui.core.errors import BadModelFile
from webui.models.devices import placement_on_cpu
from webui.models.faces.codeformer import CodeFormer, CodeFormerLayout, layout_of
from webui.models.faces.detector import Face, squared, suppressed
from webui.models.faces.restorer import TEMPLATE, load_face_network, upright, with_restored_faces
from webui.models.weights import open_weights

SMALL = CodeFormerLayout(width=32, latent=32, codes=16, embedding=64, layers=2)
CPU = placement_on_cpu(torch.float32)
PICTURE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (20, 25, 3), np.uint8)
).resize((250, 200), Image.Resampling.BICUBIC)  # fmt: skip


def face_at(x: float, y: float, scale: float, degrees: float = 0) -> Face:
    """A face whose crop of 512 pixels is `scale` times as large in the picture, around (x, y)."""
    turn = math.radians(degrees)
    matrix = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = (TEMPLATE - 256) @ matrix.T + [x, y]
    return Face((x - 50, y - 50, x + 50, y + 50), points, 1.0)


@pytest.mark.parametrize(("scale", "degrees"), [(0.2, 0), (0.3, 25), (1.7, -80), (0.25, 170)])
def test_a_face_is_turned_to_the_template(scale: float, degrees: float) -> None:
    points = face_at(120, 90, scale, degrees).points
    place = upright(points)
    assert np.allclose(points @ place[:, :2].T + place[:, 2], TEMPLATE, atol=1e-6)


@pytest.mark.parametrize(("scale", "degrees"), [(0.25, 0), (0.3, 30), (0.2, 200)])
def test_a_face_that_stays_as_it_is_leaves_no_trace(scale: float, degrees: float) -> None:
    made = with_restored_faces(PICTURE, [face_at(120, 100, scale, degrees)], lambda crop: crop)
    difference = np.abs(np.asarray(made).astype(int) - np.asarray(PICTURE))
    assert difference.max() <= 12  # resampled twice
    assert difference.mean() < 0.5


def test_only_the_face_changes_and_its_border_is_soft() -> None:
    made = np.asarray(
        with_restored_faces(PICTURE, [face_at(125, 100, 0.25)], lambda crop: Image.new("RGB", (512, 512), "red"))
    )
    before = np.asarray(PICTURE)
    outside = np.ones(made.shape[:2], bool)
    outside[100 - 65 : 100 + 65, 125 - 65 : 125 + 65] = False
    assert (made[outside] == before[outside]).all()
    assert (made[80:120, 105:145] == (255, 0, 0)).all()
    edge = np.abs(np.diff(made[100, 60:80, 1].astype(int)))
    assert edge.max() < 120


def test_a_face_beyond_the_border_is_laid_back_as_far_as_it_is_seen() -> None:
    for x, y in ((0, 0), (250, 200), (-400, 50)):
        made = with_restored_faces(PICTURE, [face_at(x, y, 0.3)], lambda crop: Image.new("RGB", (512, 512), "red"))
        assert made.size == PICTURE.size
        assert ((np.asarray(made)[:, :, 0] == 255).sum() > 500) == (x >= 0)


def test_of_boxes_that_overlap_the_best_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60], [2, 2, 6, 6]])
    scores = torch.tensor([0.8, 0.9, 0.7, 0.95])
    assert suppressed(boxes, scores, 0.5).tolist() == [3, 1, 2]
    assert suppressed(boxes, scores, 0.5, by_smaller=True).tolist() == [3, 2]
    assert squared(torch.tensor([[0.0, 0, 10, 20]])).tolist() == [[-5, 0, 15, 20]]


@pytest.fixture(scope="module")
def codeformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("codeformer") / "codeformer.pth"
    network = CodeFormer(SMALL)
    torch.nn.init.normal_(network.quantize.embedding.weight)
    torch.save({"params_ema": network.state_dict()}, path)
    return path


def test_the_official_layout_has_the_official_number_of_parameters() -> None:
    with torch.device("meta"):
        network = CodeFormer(CodeFormerLayout())
    names = network.state_dict()
    assert sum(tensor.numel() for tensor in names.values()) == 94_112_707
    assert names["encoder.blocks.24.weight"].shape == (256, 512, 3, 3)
    assert names["generator.blocks.21.conv_out.weight"].shape == (64, 128, 1, 1)
    assert names["fuse_convs_dict.256.encode_enc.conv1.weight"].shape == (128, 256, 3, 3)


def test_a_codeformer_restores_alike_each_time_and_heeds_its_weight(codeformer: Path) -> None:
    assert layout_of(open_weights(codeformer)) == SMALL
    network = load_face_network(codeformer, CPU)
    crop = PICTURE.resize((512, 512))
    first, again, closer = (network.restore(crop, weight) for weight in (0.0, 0.0, 1.0))
    assert first.size == (512, 512)
    assert first == again
    assert first != closer


def test_a_codeformer_that_lacks_tensors_is_refused(codeformer: Path, tmp_path: Path) -> None:
    tensors = dict(torch.load(codeformer, weights_only=True)["params_ema"])
    del tensors["feat_emb.bias"]
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(BadModelFile, match="lacks 1 tensors of a CodeFormer, such as feat_emb.bias"):
        load_face_network(tmp_path / "part.safetensors", CPU)
