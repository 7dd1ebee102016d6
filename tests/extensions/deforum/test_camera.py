"""The camera: matrices and offsets of the published vectors, and what a flat or broken depth does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from extensions.deforum.camera import (
    Camera,
    Motion,
    depth_distances,
    flip_matrix,
    matrix_2d,
    move,
    project,
)
from extensions.deforum.camera import _rotation as rotation


def at(matrix: np.ndarray, x: float, y: float) -> np.ndarray:
    moved = matrix @ (x, y, 1)
    return moved[:2] / moved[2]


@pytest.mark.parametrize(
    ("size", "motion", "expected"),
    [
        ((512, 512), Motion(zoom=1.04), (93.76, 197.76)),
        ((512, 512), Motion(angle=10), (92.6457, 227.9399)),
        ((512, 512), Motion(tx=10, ty=-5), (110, 195)),
        ((512, 512), Motion(angle=30, zoom=1.1, tx=10), (86.1163, 282.9528)),
        ((640, 384), Motion(angle=90), (328, 412)),
        ((512, 512), Motion(zoom=2, tx=10, center=(0, 0)), (220, 400)),
    ],
)
def test_2d(size: tuple[int, int], motion: Motion, expected: tuple[float, float]) -> None:
    assert at(matrix_2d(*size, motion), 100, 200) == pytest.approx(expected, abs=1e-3)


def test_borders() -> None:
    row = np.repeat(np.arange(0, 80, 10, dtype=np.uint8)[None, :, None], 3, axis=2)
    wrapped = move(row, Camera("2D", "wrap"), Motion(tx=3))
    assert wrapped[0, :, 0].tolist() == [50, 60, 70, 0, 10, 20, 30, 40]
    held = move(row, Camera("2D", "replicate"), Motion(tx=3))
    assert held[0, :, 0].tolist() == [0, 0, 0, 0, 10, 20, 30, 40]


@pytest.mark.parametrize(
    ("theta", "phi", "gamma", "expected"),
    [(10, 0, 0, (284.2, 232.7)), (0, 10, 0, (260.7, 262.9)), (0, 0, 10, (253.6, 251.3)), (0, 0, 0, (256.18, 256.18))],
)
def test_flip(theta: float, phi: float, gamma: float, expected: tuple[float, float]) -> None:
    assert at(flip_matrix(512, 512, theta, phi, gamma, 53, original=True), 256, 256) == pytest.approx(
        expected, abs=0.06
    )
    assert at(flip_matrix(512, 512, theta, phi, gamma, 53), 256, 256) == pytest.approx((256, 256), abs=1e-3)
    assert flip_matrix(640, 384, 0, 0, 0, 70) == pytest.approx(np.eye(3), abs=1e-4)


def test_flip_keeps_the_translation() -> None:
    motion = Motion(tx=10, flip=(0, 0, 0, 53))
    assert at(matrix_2d(512, 512, motion), 100, 200) == pytest.approx((110, 200), abs=1e-3)
    assert at(matrix_2d(512, 512, motion, original_flip=True), 100, 200)[0] < 105


@pytest.mark.parametrize(
    ("motion", "point", "expected"),
    [
        (Motion(tz=10), (0.5, -0.25, 1), (0.037583, -0.018791)),
        (Motion(tx=10), (0, 0, 1), (-0.071407, 0)),
        (Motion(ty=10), (0, 0, 1), (0, 0.071407)),
        (Motion(tz=10), (0.5, 0.5, 1.5), (0.016415, 0.016415)),
        (Motion(rotation=(0, 0, 1)), (0.5, 0, 1), (-0.000109, -0.012462)),
        (Motion(rotation=(0, 1, 0)), (0, 0, 1), (-0.024928, 0)),
        (Motion(rotation=(1, 0, 0)), (0, 0, 1), (0, 0.024928)),
        (
            Motion(fov=40, aspect=1.5, tx=5, ty=-3, tz=1.75, rotation=(1, 2, 3)),
            (0.3, -0.6, 1.25),
            (-0.148811, -0.000650),
        ),
    ],
)
def test_3d(motion: Motion, point: tuple[float, float, float], expected: tuple[float, float]) -> None:
    still = Motion(fov=motion.fov, aspect=motion.aspect)
    offset = project(torch.tensor([point], dtype=torch.float32), motion) - project(
        torch.tensor([point], dtype=torch.float32), still
    )
    assert offset[0].numpy() == pytest.approx(expected, abs=1.5e-6)


def test_rotation_matrix() -> None:
    rows = [[0.998021, -0.052304, 0.034900], [0.052936, 0.998446, -0.017442], [-0.033933, 0.019255, 0.999239]]
    x, y, z = (rotation(axis, torch.tensor(math.radians(angle))) for axis, angle in (("x", 1), ("y", 2), ("z", 3)))
    assert (x @ y @ z).numpy() == pytest.approx(np.array(rows), abs=1e-6)


def test_standing_still_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for camera in (Camera("2D"), Camera("3D", sampling="nearest"), Camera("3D", sampling="bilinear")):
        assert (np.abs(move(picture, camera, Motion()).astype(int) - picture) <= 1).all(), camera


def test_depth() -> None:
    depth = np.array([[0, 1, 2, 3], [4, 5, 6, 10]], dtype=np.float32)
    assert depth_distances(depth, near_is_large=False).ravel() == pytest.approx(
        [1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875, 2]
    )
    assert depth_distances(depth, near_is_large=True).ravel()[[0, -1]] == pytest.approx([1.875, 1])
    assert depth_distances(np.ones((2, 2)), near_is_large=True) is None
    assert depth_distances(np.array([[0, np.nan], [1, 2]]), near_is_large=True) is None


def test_near_things_move_further() -> None:
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    picture[:, 16], picture[:, 48] = 255, 255
    depth = np.ones((64, 64))
    depth[:, 32:] = 2
    moved = move(picture, Camera("3D", sampling="bilinear"), Motion(tx=10, fov=70), depth)[32, :, 0]
    near, far = 16 - moved[:32].argmax(), 48 - (32 + moved[32:].argmax())
    assert near == pytest.approx(2 * far, abs=1)
