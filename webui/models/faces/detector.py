"""Finding faces: MTCNN, three small networks that look at ever fewer candidates ever more closely.

Source: Zhang et al. 2016, arXiv:1604.02878; the layout of the weights is that of facenet-pytorch (MIT).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from webui.core.errors import BadModelFile
from webui.models.weights import open_weights

SMALLEST = 20
"""Pixels that a face must be wide."""
SHRINK = 0.709
THRESHOLDS = (0.6, 0.7, 0.9)
"""Scores that a candidate needs to pass each of the networks."""
BATCH = 256

Weights: TypeAlias = Mapping[str, Tensor]
Answer: TypeAlias = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Face:
    """box: left, top, right, bottom. points: (5, 2) eyes, nose, corners of the mouth, as seen in the picture from left
    to right. Pixels of the picture. score: 0 to 1."""

    box: tuple[float, float, float, float]
    points: NDArray[np.float64]
    score: float

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]


class FaceDetector:
    """files: of the three networks, in the order in which they look. Raises: BadModelFile."""

    def __init__(self, files: Sequence[Path], device: torch.device) -> None:
        self._device = device
        self._nets = [_read(file, device) for file in files]

    @torch.inference_mode()
    def find(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """pixels: (h, w, 3) RGB. Returns: the faces from left to right."""
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(self._device, torch.float32)
        proposal, refinement, output = self._nets
        boxes, scores = self._candidates(image, proposal)
        for net, side, threshold in ((refinement, 24, THRESHOLDS[1]), (output, 48, THRESHOLDS[2])):
            if not len(boxes):
                return []
            score, moves, points = self._look(image, boxes, net, side)
            passed = score > threshold
            boxes, scores, moves, points = boxes[passed], score[passed], moves[passed], points[passed]
            sizes = boxes[:, 2:] - boxes[:, :2] + 1
            marks = boxes[:, None, :2] + sizes[:, None] * points - 1
            moved = boxes + moves * sizes.repeat(1, 2)
            last = net is output
            kept = suppressed(moved if last else boxes, scores, 0.7, by_smaller=last)
            boxes, scores, marks = moved[kept], scores[kept], marks[kept]
            boxes = boxes if last else squared(boxes)
        found = zip(boxes.tolist(), marks.cpu().double().numpy(), scores.tolist(), strict=True)
        return sorted((Face(tuple(box), points, score) for box, points, score in found), key=lambda face: face.box[0])

    def _candidates(self, image: Tensor, net: Weights) -> tuple[Tensor, Tensor]:
        """Square boxes (n, 4) over all sizes of faces, and their scores."""
        height, width = image.shape[2:]
        scale, found = 12 / SMALLEST, []
        while min(height, width) * scale >= 12:
            small = F.interpolate(image, (int(height * scale + 1), int(width * scale + 1)), mode="area")
            x = _convolved(_normal(small), net, ("conv1", "conv2", "conv3"), {"conv1": 2})
            score = _convolved(x, net, ("conv4_1",)).softmax(1)[0, 1]
            moves = _convolved(x, net, ("conv4_2",))[0]
            at = (score >= THRESHOLDS[0]).nonzero()
            corner = ((at.flip(1) * 2 + 1) / scale).floor()
            end = ((at.flip(1) * 2 + 12) / scale).floor()
            here = torch.cat([corner, end, score[at[:, 0], at[:, 1], None], moves[:, at[:, 0], at[:, 1]].T], 1)
            found.append(here[suppressed(here[:, :4], here[:, 4], 0.5)])
            scale *= SHRINK
        every = torch.cat(found) if found else torch.empty(0, 9, device=image.device)
        every = every[suppressed(every[:, :4], every[:, 4], 0.7)]
        sizes = (every[:, 2:4] - every[:, :2]).repeat(1, 2)
        return squared(every[:, :4] + every[:, 5:9] * sizes), every[:, 4]

    def _look(self, image: Tensor, boxes: Tensor, net: Weights, side: int) -> Answer:
        """What a network says of each box: score (n,), moves (n, 4) and points (n, 5, 2) in parts of the box."""
        height, width = image.shape[2:]
        parts = []
        for left, top, right, bottom in boxes.trunc().int().tolist():
            rows, columns = slice(max(top - 1, 0), min(bottom, height)), slice(max(left - 1, 0), min(right, width))
            part = image[:, :, rows, columns]
            empty = 0 in part.shape
            parts.append(image.new_zeros(1, 3, side, side) if empty else F.interpolate(part, (side, side), mode="area"))
        answers = [_judged(_normal(torch.cat(parts[i : i + BATCH])), net) for i in range(0, len(parts), BATCH)]
        score, moves, points = (torch.cat(column) for column in zip(*answers, strict=True))
        return score, moves, points


def _judged(x: Tensor, net: Weights) -> Answer:
    """The second or the third network, which has one convolution more, on (n, 3, side, side)."""
    large = "conv4.weight" in net
    hidden, heads = (5, 6) if large else (4, 5)
    names = ("conv1", "conv2", "conv3", *(("conv4",) if large else ()))
    pools = {"conv1": 3, "conv2": 3} | ({"conv3": 2} if large else {})
    x = _convolved(x, net, names, pools).permute(0, 3, 2, 1).flatten(1)
    x = F.prelu(_dense(x, net, f"dense{hidden}"), net[f"prelu{hidden}.weight"])
    score = _dense(x, net, f"dense{heads}_1").softmax(1)[:, 1]
    moves = _dense(x, net, f"dense{heads}_2")
    points = _dense(x, net, f"dense{heads}_3") if large else x.new_zeros(len(x), 10)
    return score, moves, points.view(-1, 2, 5).transpose(1, 2)


def _convolved(x: Tensor, net: Weights, names: Sequence[str], pools: Mapping[str, int] | None = None) -> Tensor:
    """Convolutions, each with its PReLU if it has one and its pooling by 2 over the width that `pools` says."""
    for name in names:
        x = F.conv2d(x, net[f"{name}.weight"], net[f"{name}.bias"])
        slope = net.get(f"{name.replace('conv', 'prelu')}.weight")
        x = x if slope is None else F.prelu(x, slope)
        if pools and name in pools:
            x = F.max_pool2d(x, pools[name], 2, ceil_mode=True)
    return x


def _dense(x: Tensor, net: Weights, name: str) -> Tensor:
    return F.linear(x, net[f"{name}.weight"], net[f"{name}.bias"])


def _normal(pixels: Tensor) -> Tensor:
    return (pixels - 127.5) / 128


def squared(boxes: Tensor) -> Tensor:
    """The squares around the centres of boxes (n, 4), as wide as their longer sides."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    longest = sizes.amax(1, keepdim=True)
    corner = boxes[:, :2] + sizes / 2 - longest / 2
    return torch.cat([corner, corner + longest], 1)


def suppressed(boxes: Tensor, scores: Tensor, most: float, by_smaller: bool = False) -> Tensor:
    """Indices of the boxes that no better one overlaps by more than `most`, the best first.

    The overlap is counted against both boxes' union, or with `by_smaller` against the smaller of them.
    """
    boxes, order = boxes.cpu(), scores.cpu().argsort(descending=True)
    areas = ((boxes[:, 2:] - boxes[:, :2]).clamp(min=0) + 1).prod(1)
    kept: list[int] = []
    while len(order):
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        corner = torch.maximum(boxes[best, :2], boxes[rest, :2])
        end = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (end - corner + 1).clamp(min=0).prod(1)
        whole = torch.minimum(areas[best], areas[rest]) if by_smaller else areas[best] + areas[rest] - shared
        order = rest[shared / whole <= most]
    return torch.tensor(kept, dtype=torch.long, device=scores.device)


def _read(file: Path, device: torch.device) -> dict[str, Tensor]:
    opened = open_weights(file)
    if "conv1.weight" not in opened.shapes:
        raise BadModelFile(f"{file.name} is no network of MTCNN.")
    return {name: opened.tensor(name).to(device, torch.float32, copy=True) for name in opened.shapes}
