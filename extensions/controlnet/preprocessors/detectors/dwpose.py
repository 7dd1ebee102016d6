"""People and animals by a detector of boxes (YOLOX) and a network of keypoints for each box (RTMPose), in ONNX.

Sources: Ge et al. 2021, "YOLOX"; Jiang et al. 2023, "RTMPose"; Yang et al. 2023, "Effective whole-body pose estimation
with two-stages distillation" (DWPose).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from webui.extensions.api import BadModelFile

from .. import poses

Picture = Any
Detect = Callable[[Picture, float, float], dict[str, Any]]

STRIDES = (8, 16, 32)
LEAST_SCORE, MOST_OVERLAP, LEAST_BOX, LEAST_POINT = 0.1, 0.45, 0.3, 0.3
PERSON, ANIMALS = (0,), tuple(range(14, 24))
"""Classes of COCO."""
MARGIN = 1.25
MEAN, STD = np.array((123.675, 116.28, 103.53)), np.array((58.395, 57.12, 57.375))

FACE, LEFT_HAND, RIGHT_HAND = slice(23, 91), slice(91, 112), slice(112, 133)
EYES = (14, 15)
"""OpenPose's faces end with the body's eyes."""


def load_people(files: Sequence[Path], device: Any) -> Detect:
    """files: yolox_l.onnx and dw-ll_ucoco_384.onnx."""
    boxes, points = (_session(path, device) for path in files[:2])

    def detect(picture: Picture, _a: float, _b: float) -> dict[str, Any]:
        bgr = picture[:, :, ::-1].copy()
        people = [_person(*_keypoints(points, bgr, box)) for box in _boxes(boxes, bgr, PERSON)]
        return poses.pose(people, picture.shape[1], picture.shape[0])

    return detect


def load_animals(files: Sequence[Path], device: Any) -> Detect:
    """files: yolox_l.onnx and rtmpose-m_ap10k_256.onnx."""
    boxes, points = (_session(path, device) for path in files[:2])

    def detect(picture: Picture, _a: float, _b: float) -> dict[str, Any]:
        bgr = picture[:, :, ::-1].copy()
        animals = [
            poses.flat(_present(*_keypoints(points, bgr, box))[: poses.ANIMAL_POINTS])
            for box in _boxes(boxes, bgr, ANIMALS)
        ]
        return poses.pose([], picture.shape[1], picture.shape[0], animals)

    return detect


def _session(path: Path, device: Any) -> Any:
    """Raises: BadModelFile."""
    import onnxruntime

    wanted = ["CUDAExecutionProvider"] if str(device).startswith("cuda") else []
    there = onnxruntime.get_available_providers()
    providers = [name for name in wanted if name in there] + ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # onnxruntime's errors have no common class
        raise BadModelFile(f"{path.name} can't be read as ONNX: {str(error).splitlines()[0][:200]}") from error


def _size(session: Any) -> tuple[int, int]:
    """(height, width) of the pictures that a network takes."""
    height, width = session.get_inputs()[0].shape[2:4]
    return int(height), int(width)


def _run(session: Any, feed: Any) -> Any:
    return session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(feed, np.float32)})


def _boxes(session: Any, bgr: Picture, classes: Sequence[int]) -> list[Any]:
    """(x1, y1, x2, y2) in pixels of each thing of those classes, the surest of each class first."""
    height, width = _size(session)
    ratio = min(height / bgr.shape[0], width / bgr.shape[1])
    small = cv2.resize(bgr, (int(bgr.shape[1] * ratio), int(bgr.shape[0] * ratio)), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((height, width, 3), 114, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    found = _run(session, canvas.transpose(2, 0, 1)[None])[0][0]
    centres, sides = _on_grid(found, height, width)
    corners = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1) / ratio
    kept = []
    for number in classes:
        scores = found[:, 4] * found[:, 5 + number]
        likely = np.flatnonzero(scores > LEAST_SCORE)
        for index in _separate(corners[likely], scores[likely]):
            if scores[likely[index]] > LEAST_BOX:
                kept.append(corners[likely[index]])
    return kept


def _on_grid(found: Any, height: int, width: int) -> tuple[Any, Any]:
    """Centres and sides in pixels of what each cell of the three grids tells."""
    cells, strides = [], []
    for stride in STRIDES:
        across, down = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        cells.append(np.stack([across, down], axis=2).reshape(-1, 2))
        strides.append(np.full((cells[-1].shape[0], 1), stride))
    grid, stride = np.concatenate(cells), np.concatenate(strides)
    return (found[:, :2] + grid) * stride, np.exp(found[:, 2:4]) * stride


def _separate(corners: Any, scores: Any) -> list[int]:
    """Non-maximum suppression: the surest box of each place."""
    areas = (corners[:, 2] - corners[:, 0] + 1) * (corners[:, 3] - corners[:, 1] + 1)
    order, kept = scores.argsort()[::-1], []
    while order.size:
        first, rest = order[0], order[1:]
        kept.append(int(first))
        low = np.maximum(corners[first, :2], corners[rest, :2])
        high = np.minimum(corners[first, 2:], corners[rest, 2:])
        shared = np.maximum(high - low + 1, 0).prod(axis=1)
        order = rest[shared / (areas[first] + areas[rest] - shared) <= MOST_OVERLAP]
    return kept


def _keypoints(session: Any, bgr: Picture, box: Any) -> tuple[Any, Any]:
    """(N, 2) places in pixels and (N,) scores of what a box holds."""
    height, width = _size(session)
    centre = (box[:2] + box[2:]) / 2
    across, down = (box[2:] - box[:2]) * MARGIN
    across = max(across, down * width / height)
    scale = width / across
    turn = np.array([[scale, 0, width / 2 - scale * centre[0]], [0, scale, height / 2 - scale * centre[1]]])
    crop = cv2.warpAffine(bgr, turn, (width, height), flags=cv2.INTER_LINEAR)
    across_bins, down_bins = _run(session, ((crop - MEAN) / STD).transpose(2, 0, 1)[None])[:2]
    # SimCC: a row of bins along each side, two or so a pixel
    places = np.stack([across_bins[0].argmax(axis=1), down_bins[0].argmax(axis=1)], axis=1).astype(np.float64)
    places *= np.array([width / across_bins.shape[2], height / down_bins.shape[2]])
    scores = np.minimum(across_bins[0].max(axis=1), down_bins[0].max(axis=1))
    return places / scale + centre - np.array([width, height]) / (2 * scale), scores


def _present(places: Any, scores: Any) -> list[poses.Point]:
    return [
        (float(x), float(y)) if score >= LEAST_POINT else None for (x, y), score in zip(places, scores, strict=True)
    ]


def _person(places: Any, scores: Any) -> dict[str, Any]:
    """OpenPose's points of a whole body: 17 of COCO, 6 of the feet, 68 of the face, 21 of each hand."""
    points = _present(places, scores)
    body = poses.body_from_coco(points)
    face = [*points[FACE], *(body[index] for index in EYES)]
    return poses.person(body, points[LEFT_HAND], points[RIGHT_HAND], face)
