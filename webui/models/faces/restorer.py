"""Faces made sharp: each is turned upright, restored by a network, and laid back softly.

Source: Wang et al. 2021, arXiv:2101.04061 (GFPGAN); the places of the five points are those its crops were trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from webui.core.errors import BadModelFile
from webui.models.devices import Placement
from webui.models.faces.codeformer import layout_of, load_codeformer
from webui.models.faces.detector import Face
from webui.models.upscalers.network import load_descriptor
from webui.models.weights import open_weights

SIDE = 512
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
"""Where eyes, nose and corners of the mouth are in a crop of 512 pixels."""
SIGNED = ("GFPGAN", "RestoreFormer")
"""Architectures whose numbers are -1 to 1, and which answer with several pictures."""
FEATHER = 24
"""Pixels of a crop over which its border fades into the picture."""

Restore: TypeAlias = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class FaceNetwork:
    """A network that restores upright faces of 512 pixels. run: from (1, 3, 512, 512) in [0, 1] and a weight to it."""

    name: str
    device: torch.device
    run: Callable[[Tensor, float], Tensor]

    @torch.inference_mode()
    def restore(self, crop: Image.Image, weight: float) -> Image.Image:
        """crop: 512 x 512, RGB. weight: 0 changes it most, 1 least, if the network is a CodeFormer.

        The same crop gives the same face: what the network draws by lot is seeded.
        """
        given = torch.from_numpy(np.array(crop, np.float32)).permute(2, 0, 1)[None].to(self.device) / 255
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(0)
            found = self.run(given, weight)
        levels = found[0].float().clamp(0, 1).permute(1, 2, 0).mul(255).round().byte().cpu().numpy()
        return Image.fromarray(levels)


def load_face_network(path: Path, placement: Placement) -> FaceNetwork:
    """The network in a file, in single precision on the device. Raises: BadModelFile."""
    file, device = open_weights(path), placement.device
    layout = layout_of(file)
    if layout is not None:
        codeformer = load_codeformer(file, layout).to(device)
        return FaceNetwork(path.stem, device, lambda x, weight: codeformer(x * 2 - 1, weight) / 2 + 0.5)
    descriptor = load_descriptor(path)
    if type(descriptor).__name__ != "ImageModelDescriptor" or (descriptor.scale, descriptor.input_channels) != (1, 3):
        raise BadModelFile(f"{path.name} is no network that restores faces: {descriptor.architecture.name}.")
    descriptor.to(device).eval()
    if descriptor.architecture.id not in SIGNED:
        return FaceNetwork(path.stem, device, lambda x, weight: descriptor(x))
    return FaceNetwork(path.stem, device, lambda x, weight: _first(descriptor.model(x * 2 - 1)) / 2 + 0.5)


def _first(answer: Any) -> Tensor:
    """The picture among what a network answers."""
    picture: Tensor = answer[0] if isinstance(answer, tuple) else answer
    return picture


def with_restored_faces(image: Image.Image, faces: Sequence[Face], restore: Restore) -> Image.Image:
    """The picture with each of its faces restored. image: RGB."""
    for face in faces:
        place = upright(face.points)
        back = np.linalg.inv(np.vstack([place, [0, 0, 1]]))[:2]
        crop = image.transform((SIDE, SIDE), Image.Transform.AFFINE, _numbers(back), Image.Resampling.BICUBIC)
        box = _bounds(back, image.size)
        if box is None:
            continue
        there = place.copy()  # from a pixel of the box, rather than of the picture, to the crop's
        there[:, 2] += place[:, :2] @ np.array(box[:2])
        restored, mask = _laid_out(restore(crop), there, (box[2] - box[0], box[3] - box[1]))
        image = image.copy()
        image.paste(restored, box[:2], mask)
    return image


def upright(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The turn, scale and shift (2, 3) that brings five points (5, 2) closest to the template's.

    Least squares without reflection. Source: Umeyama 1991.
    """
    rows, wanted = [], []
    for (x, y), (u, v) in zip(points, TEMPLATE, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        wanted += [u, v]
    a, b, dx, dy = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
    return np.array([[a, -b, dx], [b, a, dy]])


def _laid_out(face: Image.Image, there: NDArray[np.float64], size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """A restored crop as it lies in a part of the picture of that size, and how much of it counts there."""
    inner = Image.new("L", (SIDE, SIDE), 0)
    inner.paste(255, (FEATHER, FEATHER, SIDE - FEATHER, SIDE - FEATHER))
    mask = inner.filter(ImageFilter.GaussianBlur(FEATHER / 3))
    scale = float(np.hypot(there[0, 0], there[1, 0]))
    if scale > 1:  # the crop shrinks on its way back, and would alias
        face = face.filter(ImageFilter.GaussianBlur((scale - 1) / 2))
    numbers = _numbers(there)
    return (
        face.transform(size, Image.Transform.AFFINE, numbers, Image.Resampling.BICUBIC),
        mask.transform(size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR),
    )


def _bounds(back: NDArray[np.float64], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The part of the picture that a crop covers, None when it lies outside."""
    corners = back @ np.array([[0, SIDE, 0, SIDE], [0, 0, SIDE, SIDE], [1, 1, 1, 1]])
    left, top = np.floor(corners.min(1)).astype(int)
    right, bottom = np.ceil(corners.max(1)).astype(int)
    box = max(int(left), 0), max(int(top), 0), min(int(right), size[0]), min(int(bottom), size[1])
    return box if box[0] < box[2] and box[1] < box[3] else None


def _numbers(matrix: NDArray[np.float64]) -> tuple[float, ...]:
    """A transform of pixels' centres as Pillow wants it: from where it is to where it comes from."""
    return tuple(float(number) for number in matrix.reshape(-1))
