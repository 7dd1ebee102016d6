"""BiSeNet on random weights: its backbone is torchvision's ResNet 18, and a mask follows from its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from extensions.faceswap.faces import Face
from extensions.faceswap.masks import Masking
from extensions.faceswap.parsing import OUTPUT, FaceParser, parser_file
from webui.core.errors import BadModelFile

HEADS = {
    "cp.arm16": (256, 128), "cp.arm32": (512, 128), "cp.conv_head32": (128, 128), "cp.conv_head16": (128, 128),
    "cp.conv_avg": (512, 128), "ffm.convblk": (256, 256), "conv_out.conv": (256, 256),
}  # fmt: skip
POINTWISE = ("cp.conv_avg", "ffm.convblk")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """In the layout of facexlib's file, random but for the output, which sees nothing but class 0."""
    torch.manual_seed(0)
    backbone = resnet18(weights=None).eval().state_dict()
    found = {f"cp.resnet.{name}": tensor for name, tensor in backbone.items() if not name.startswith("fc.")}
    for name, (inner, outer) in HEADS.items():
        root = f"{name}.conv" if name.startswith("cp.arm") else name
        side = 1 if name in POINTWISE else 3
        found[f"{root}.conv.weight"] = torch.randn(outer, inner, side, side) * 0.05
        norms = {f"{root}.bn": outer} | ({f"{name}.bn_atten": outer} if name.startswith("cp.arm") else {})
        for norm, width in norms.items():
            found |= {f"{norm}.weight": torch.ones(width), f"{norm}.bias": torch.zeros(width)}
            found |= {f"{norm}.running_mean": torch.zeros(width), f"{norm}.running_var": torch.ones(width)}
        if name.startswith("cp.arm"):
            found[f"{name}.conv_atten.weight"] = torch.randn(outer, outer, 1, 1) * 0.05
    found["ffm.conv1.weight"] = torch.randn(64, 256, 1, 1) * 0.05
    found["ffm.conv2.weight"] = torch.randn(256, 64, 1, 1) * 0.05
    found[OUTPUT] = torch.zeros(19, 256, 1, 1)
    return found


def test_its_backbone_is_resnet_18(weights: dict[str, torch.Tensor]) -> None:
    reference = resnet18(weights=None).eval()
    own = {name.removeprefix("cp.resnet."): item for name, item in weights.items() if name.startswith("cp.resnet.")}
    reference.load_state_dict(own, strict=False)
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        y = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
        wanted = []
        for layer in (reference.layer1, reference.layer2, reference.layer3, reference.layer4):
            y = layer(y)
            wanted.append(y)
        found = FaceParser(weights).features(x)
    for ours, theirs in zip(found, wanted[1:], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_mask_is_where_a_class_of_the_face_is_seen(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    face = Face(np.zeros(4, np.float32), np.zeros((5, 2), np.float32), 1.0)
    for seen, share in ((1, 1), (13, 1), (0, 0), (14, 0), (17, 0)):
        output = torch.zeros(19, 256, 1, 1)
        output[seen] = 1  # what comes before is not negative
        path = tmp_path / "GFPGAN" / "parsing_bisenet.pth"
        path.parent.mkdir(exist_ok=True)
        torch.save({**weights, OUTPUT: output}, path)
        assert parser_file(tmp_path) == path
        mask = Masking(shape=True, parser=FaceParser.read(path)).mask(crop, face, np.eye(2, 3))
        assert mask is not None
        assert mask.mean() == pytest.approx(share, abs=0.05)


def test_another_networks_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "parsing_bisenet.pth"
    torch.save({"body.0.weight": torch.zeros(3)}, path)
    with pytest.raises(BadModelFile, match=r"parsing_bisenet\.pth is no BiSeNet"):
        FaceParser.read(path)
    assert parser_file(tmp_path) is None
