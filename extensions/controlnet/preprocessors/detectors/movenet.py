"""Up to six bodies by MoveNet MultiPose (Google), whose 17 points become OpenPose's 18."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from .. import poses
from .tensorflow_graph import Graph

Picture = Any
Detect = Callable[[Picture, float, float], dict[str, Any]]

LONG_SIDE, MULTIPLE = 256, 32
"""Of the picture that the network sees, in pixels."""
POINTS = 17
LEAST_BODY, LEAST_POINT = 0.2, 0.25
"""Scores below which a body, or a point of it, wasn't found."""


def load_movenet(files: Sequence[Path], device: Any) -> Detect:
    """files: movenet-multipose.json, its .bin beside."""
    graph = Graph(files[0], device)

    def detect(picture: Picture, _a: float, _b: float) -> dict[str, Any]:
        height, width = picture.shape[:2]
        scale = LONG_SIDE / max(height, width)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        small = np.pad(small, ((0, -size[1] % MULTIPLE), (0, -size[0] % MULTIPLE), (0, 0)))
        with torch.inference_mode():
            found = graph(torch.from_numpy(small)[None].long().to(device))[0].cpu().numpy()
        people = []
        for body in found[found[:, -1] >= LEAST_BODY]:
            places = body[: 3 * POINTS].reshape(POINTS, 3) * (small.shape[0] / scale, small.shape[1] / scale, 1)
            coco = [(float(x), float(y)) if score >= LEAST_POINT else None for y, x, score in places]
            people.append(poses.person(poses.body_from_coco(coco)))
        return poses.pose(people, width, height)

    return detect
