"""Faces turned upright and laid back.

Points are (x, y) in pixels, pictures (H, W, 3) uint8 RGB, a matrix is (2, 3) from the picture to the crop.
Source: Umeyama 1991 for the alignment; the contract of insightface's models for template, mask and blend.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
Matrix: TypeAlias = NDArray[np.float64]
Points: TypeAlias = NDArray[np.float64]

TEMPLATE: Points = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where eyes, nose and corners of the mouth are in a crop of 112 pixels."""


def template(side: int) -> Points:
    """The five points in a crop of this side: one that 112 doesn't divide is 128 wide at first, 8 more on each side."""
    if side % 112 == 0:
        return TEMPLATE * (side / 112)
    ratio = side / 128
    return TEMPLATE * ratio + np.array([8.0 * ratio, 0.0])


def alignment(points: Points, side: int) -> Matrix:
    """The turn, scale and shift that bring five points closest to the template's, by least squares."""
    wanted = template(side)
    centre, goal = points.mean(0), wanted.mean(0)
    a, b = points - centre, wanted - goal
    u, spread, v = np.linalg.svd(b.T @ a / len(points))
    mirror = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v)) or 1.0])
    turn = u @ np.diag(mirror) @ v
    variance = a.var(0).sum()
    scale = float(spread @ mirror) / variance if variance > 0 else 1.0
    return np.hstack([scale * turn, (goal - scale * turn @ centre)[:, None]])


def inverse(matrix: Matrix) -> Matrix:
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def cropped(pixels: Pixels, matrix: Matrix, side: int) -> Pixels:
    """The upright crop; black where the picture doesn't reach."""
    return np.asarray(cv2.warpAffine(pixels, matrix, (side, side), borderValue=0.0), np.uint8)


def face_mask(matrix: Matrix, size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """How much of a swapped crop counts at each pixel of a picture of size (width, height), (H, W) in 0 to 1.

    The crop's square, drawn in by a tenth of its side and softened by a twentieth.
    """
    white = np.full((side, side), 255, np.float32)
    mask = cv2.warpAffine(white, inverse(matrix), size, borderValue=0.0)
    mask[mask > 20] = 255
    rows, columns = np.nonzero(mask == 255)
    if not len(rows):
        return np.zeros((size[1], size[0]), np.float32)
    length = int(np.sqrt(np.ptp(rows) * np.ptp(columns)))
    reach = max(length // 10, 10)
    mask = cv2.erode(mask, np.ones((reach, reach), np.uint8), iterations=1)
    softness = 2 * max(length // 20, 5) + 1
    return np.asarray(cv2.GaussianBlur(mask, (softness, softness), 0) / 255, np.float32)


def region_of(matrix: Matrix, size: tuple[int, int], side: int) -> tuple[int, int, int, int] | None:
    """The part of the picture that a crop and the softening around it cover, left, top, right, bottom; or None."""
    corners = inverse(matrix) @ np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]])
    margin = 4 + (corners.max(1) - corners.min(1)).max() / 8
    left, top = np.floor(corners.min(1) - margin).astype(int)
    right, bottom = np.ceil(corners.max(1) + margin).astype(int)
    box = max(int(left), 0), max(int(top), 0), min(int(right), size[0]), min(int(bottom), size[1])
    return box if box[0] < box[2] and box[1] < box[3] else None


def shifted(matrix: Matrix, left: int, top: int) -> Matrix:
    """The matrix for a part of the picture that begins there."""
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ np.array([left, top])
    return moved


def pasted(pixels: Pixels, crop: Pixels, matrix: Matrix, mask: NDArray[np.float32] | None = None) -> Pixels:
    """The picture with the crop laid back. mask: (side, side) in 0 to 1, what of the crop may be seen; None for all."""
    side = crop.shape[0]
    size = pixels.shape[1], pixels.shape[0]
    box = region_of(matrix, size, side)
    if box is None:
        return pixels
    left, top, right, bottom = box
    here, part = shifted(matrix, left, top), pixels[top:bottom, left:right]
    part_size = right - left, bottom - top
    weight = face_mask(here, part_size, side)
    back = inverse(here)
    if mask is not None:
        weight = weight * cv2.warpAffine(mask, back, part_size, borderValue=0.0)
    laid = cv2.warpAffine(crop, back, part_size, borderValue=0.0)
    mixed = weight[..., None] * laid + (1 - weight[..., None]) * part.astype(np.float32)
    result = pixels.copy()
    result[top:bottom, left:right] = mixed.astype(np.uint8)
    return result
