"""What of a swapped face may be seen: the face's own shape, without what lies before it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .faces import Face
from .geometry import Matrix, Pixels, template
from .parsing import FaceParser

SOFT = 12 / 512
"""The border's softness, in parts of a crop's side."""
UNLIKE = 5.0
"""From how many deviations on a pixel isn't skin."""
SMALLEST = 0.004
"""In parts of the crop, what covers a face at least."""

Mask = NDArray[np.float32]


@dataclass(frozen=True)
class Masking:
    """shape: only the face itself, not the whole square. covered: not where something lies before it.

    parser: tells which pixels of a crop are face, and so what covers it; None goes by landmarks and colours.
    """

    shape: bool = False
    covered: bool = False
    parser: FaceParser | None = None

    def mask(self, crop: Pixels, face: Face, matrix: Matrix) -> Mask | None:
        """(side, side) in 0 to 1, None for all of the crop. crop: the target's, upright by `matrix`."""
        if not (self.shape or self.covered):
            return None
        side = crop.shape[0]
        if self.parser is not None:
            return softened(self.parser.face(crop))
        mask = np.ones((side, side), np.float32)
        if self.shape:
            mask = face_shape(face, matrix, side)
        if self.covered:
            mask = mask * (1 - cover(crop))
        return softened(mask)


def face_shape(face: Face, matrix: Matrix, side: int) -> Mask:
    """1 inside the face's outline: around its landmarks, or an oval about the five points."""
    mask = np.zeros((side, side), np.float32)
    if face.contour is not None:
        points = face.contour @ matrix[:, :2].T + matrix[:, 2]
        hull = cv2.convexHull(points.astype(np.float32)).round().astype(np.int32)
        cv2.fillConvexPoly(mask, hull, 1.0)
        reach = max(side // 32, 1)
        return np.asarray(cv2.dilate(mask, np.ones((reach, reach), np.uint8)), np.float32)
    centre, axes = oval(side)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1)
    return mask


def oval(side: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The centre and half axes of a face in a crop."""
    points = template(side)
    across = (points[1, 0] - points[0, 0] + points[4, 0] - points[3, 0]) / 2
    down = (points[3:, 1].mean() - points[:2, 1].mean()) / 2
    middle = points[:2].mean(0) / 2 + points[3:].mean(0) / 2
    return (round(float(middle[0])), round(float(middle[1] + down * 0.1))), (round(across * 1.1), round(down * 2.4))


def cover(crop: Pixels) -> Mask:
    """1 where something that isn't skin lies over the face.

    The colours of skin are learnt from the cheeks and the nose of this face. What is far from them is taken for a
    cover if it is large and doesn't belong to eyes, brows and mouth, which differ from skin in every face.
    """
    side = crop.shape[0]
    colors = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
    points = template(side)
    nose, unit = points[2], (points[1, 0] - points[0, 0])
    samples = np.zeros((side, side), np.uint8)
    for x, y in (nose, points[0] + [0, unit * 0.55], points[1] + [0, unit * 0.55]):
        cv2.circle(samples, (round(float(x)), round(float(y))), max(round(unit * 0.22), 1), 1, -1)
    skin = colors[samples > 0]
    middle = np.median(skin, 0)
    near = skin[np.abs(skin - middle).max(1) <= 40]  # a hand's edge in a sample shouldn't widen what counts as skin
    spread = np.maximum(near.std(0) if len(near) else skin.std(0), np.array([14.0, 4.0, 4.0]))
    distance = np.sqrt((((colors - middle) / spread) ** 2).sum(2))
    unlike = (distance > UNLIKE).astype(np.uint8)
    features = np.zeros((side, side), np.uint8)
    for x, y in points[:2]:
        cv2.ellipse(
            features,
            (round(x), round(float(y - unit * 0.1))),
            (round(unit * 0.4), round(unit * 0.35)),
            0,
            0,
            360,
            1,
            -1,
        )
    mouth = points[3:].mean(0)
    cv2.ellipse(
        features,
        (round(float(mouth[0])), round(float(mouth[1]))),
        (round(unit * 0.55), round(unit * 0.3)),
        0,
        0,
        360,
        1,
        -1,
    )
    count, labels, stats, _ = cv2.connectedComponentsWithStats(unlike)
    covering = np.zeros((side, side), np.float32)
    for label in range(1, count):
        part = labels == label
        outside = part & (features == 0)
        enough = outside.sum() >= SMALLEST * side * side
        if stats[label, cv2.CC_STAT_AREA] and enough and outside.sum() >= 0.3 * part.sum():
            covering[part] = 1
    return covering


def softened(mask: Mask) -> Mask:
    width = 2 * max(round(mask.shape[0] * SOFT / 2), 1) + 1
    return np.asarray(cv2.blur(mask, (width, width)), np.float32)
