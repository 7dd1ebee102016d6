"""Which pixels of a crop are face: BiSeNet, in the layout of facexlib's parsing_bisenet.pth, if the user has it.

Source: Yu et al. 2018, arXiv:1808.00897; 19 classes of CelebAMask-HQ, of which 1 to 13 are skin, brows, eyes, glasses,
ears, nose, mouth and lips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.extensions.api import BadModelFile, read_weights

from .geometry import Pixels

NAME = "parsing_bisenet"
FOLDERS = ("GFPGAN", "Codeformer", "facedetection")
OUTPUT = "conv_out.conv_out.weight"
SIDE = 512
FACE = range(1, 14)
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pictures that it was trained on."""


def parser_file(models: Path) -> Path | None:
    """Where it lies: beside the face restorers, as A1111 and ReActor keep it."""
    files = (models / folder / f"{NAME}{ending}" for folder in FOLDERS for ending in (".pth", ".safetensors"))
    return next((file for file in files if file.is_file()), None)


@dataclass(frozen=True)
class FaceParser:
    weights: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> FaceParser:
        """Raises: BadModelFile."""
        weights = {name: tensor.float() for name, tensor in read_weights(path).items()}
        for name in ("cp.resnet.conv1.weight", "cp.arm32.conv_atten.weight", "ffm.conv2.weight", OUTPUT):
            if name not in weights:
                raise BadModelFile(f"{path.name} is no BiSeNet for faces: it lacks {name}.")
        if len(weights[OUTPUT]) != 19:
            raise BadModelFile(f"{path.name} tells {len(weights[OUTPUT])} classes apart, where a face has 19.")
        return cls(weights)

    def face(self, crop: Pixels) -> NDArray[np.float32]:
        """crop: square, RGB. Returns: (side, side), 1 where the face is."""
        import torch

        side = crop.shape[0]
        large = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
        x = torch.from_numpy((large - np.array(MEAN, np.float32)) / np.array(SPREAD, np.float32))
        with torch.inference_mode():
            classes = self.classes(x.permute(2, 0, 1)[None]).argmax(1)[0].numpy()
        mask = np.isin(classes, list(FACE)).astype(np.float32)
        return np.asarray(cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA), np.float32)

    def classes(self, x: Any) -> Any:
        """x: (1, 3, h, w), sides divisible by 32. Returns: (1, 19, h, w), how much each class is seen."""
        import torch
        import torch.nn.functional as F

        fine, middle, coarse = self.features(x)
        whole = self._conv(F.adaptive_avg_pool2d(coarse, 1), "cp.conv_avg")
        deep = self._attended(coarse, "cp.arm32") + whole
        deep = self._conv(F.interpolate(deep, middle.shape[2:]), "cp.conv_head32", padding=1)
        context = self._attended(middle, "cp.arm16") + deep
        context = self._conv(F.interpolate(context, fine.shape[2:]), "cp.conv_head16", padding=1)
        both = self._conv(torch.cat([fine, context], 1), "ffm.convblk")
        weight = F.relu(F.conv2d(F.adaptive_avg_pool2d(both, 1), self.weights["ffm.conv1.weight"]))
        both = both + both * F.conv2d(weight, self.weights["ffm.conv2.weight"]).sigmoid()
        seen = F.conv2d(self._conv(both, "conv_out.conv", padding=1), self.weights[OUTPUT])
        return F.interpolate(seen, x.shape[2:], mode="bilinear", align_corners=True)

    def features(self, x: Any) -> tuple[Any, Any, Any]:
        """ResNet 18's at an eighth, a sixteenth and a thirty-second of the sides."""
        import torch.nn.functional as F

        root = "cp.resnet"
        x = F.conv2d(x, self.weights[f"{root}.conv1.weight"], stride=2, padding=3)
        x = F.max_pool2d(F.relu(self._normed(x, f"{root}.bn1")), 3, 2, 1)
        found = []
        for level in range(1, 5):
            for block in range(2):
                x = self._block(x, f"{root}.layer{level}.{block}", 2 if level > 1 and block == 0 else 1)
            found.append(x)
        return found[1], found[2], found[3]

    def _block(self, x: Any, name: str, stride: int) -> Any:
        import torch.nn.functional as F

        made = F.conv2d(x, self.weights[f"{name}.conv1.weight"], stride=stride, padding=1)
        made = F.relu(self._normed(made, f"{name}.bn1"))
        made = self._normed(F.conv2d(made, self.weights[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
        if f"{name}.downsample.0.weight" in self.weights:
            x = F.conv2d(x, self.weights[f"{name}.downsample.0.weight"], stride=stride)
            x = self._normed(x, f"{name}.downsample.1")
        return F.relu(made + x)

    def _attended(self, x: Any, name: str) -> Any:
        import torch.nn.functional as F

        made = self._conv(x, f"{name}.conv", padding=1)
        weight = F.conv2d(F.adaptive_avg_pool2d(made, 1), self.weights[f"{name}.conv_atten.weight"])
        return made * self._normed(weight, f"{name}.bn_atten").sigmoid()

    def _conv(self, x: Any, name: str, padding: int = 0) -> Any:
        import torch.nn.functional as F

        made = F.conv2d(x, self.weights[f"{name}.conv.weight"], padding=padding)
        return F.relu(self._normed(made, f"{name}.bn"))

    def _normed(self, x: Any, name: str) -> Any:
        import torch.nn.functional as F

        mean, spread, weight, bias = (
            self.weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, spread, weight, bias)
