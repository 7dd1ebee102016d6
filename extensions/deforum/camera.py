"""How a picture moves from one frame to the next: in its plane, flipped in space, or seen by a camera in space.

Pictures are (H, W, 3) uint8 in OpenCV's channel order; nothing here depends on the order. Flows, (H, W, 2) float32,
move as pictures do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from .sampling import read_at


@dataclass(frozen=True)
class Motion:
    """One frame's motion. Angles and fov in degrees; tx, ty in pixels (2D) or 1/200 of half a width (3D)."""

    angle: float = 0
    zoom: float = 1
    tx: float = 0
    ty: float = 0
    tz: float = 0
    center: tuple[float, float] = (0.5, 0.5)
    rotation: tuple[float, float, float] = (0, 0, 0)
    flip: tuple[float, float, float, float] | None = None
    """theta, phi, gamma, and the field of view of the flip."""
    fov: float = 70
    aspect: float = 1
    near: float = 200
    """Cancels out, but for the last bit."""


@dataclass(frozen=True)
class Camera:
    """What stays the same over an animation.

    mode: "2D" or "3D". original_flip: flip as old animations did, where the centre drifts and 2D loses its translation.
    """

    mode: str
    border: str = "replicate"
    padding: str = "border"
    sampling: str = "bicubic"
    original_flip: bool = False


def move(picture: Any, camera: Camera, motion: Motion, depth: Any = None) -> Any:
    """The picture one frame on, of the same type. depth: (H, W) distances, 1 near to 2 far; None is a plane at 1."""
    height, width = picture.shape[:2]
    if camera.mode == "2D":
        return warp(picture, matrix_2d(width, height, motion, camera.original_flip), camera.border)
    if motion.flip is not None:
        flipped = flip_matrix(width, height, *motion.flip, original=camera.original_flip)
        picture = warp(picture, flipped, camera.border)
    grid = _plane_grid(width, height, motion) if depth is None else grid_3d(width, height, motion, depth)
    sampled = sample(picture, grid, camera.sampling, camera.padding)
    return np.clip(sampled, 0, 255).astype(np.uint8) if picture.dtype == np.uint8 else sampled


def warp(picture: Any, matrix: Any, border: str) -> Any:
    """The picture moved by a (3, 3) matrix from old to new places. border: "replicate" or "wrap"."""
    import cv2

    height, width = picture.shape[:2]
    back = cv2.invert(np.asarray(matrix, dtype=np.float64))[1]
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    u, v, w = np.tensordot(back, np.stack([x, y, np.ones_like(x)]), axes=1)
    scale = np.divide(1, w, out=np.zeros_like(w), where=w != 0)
    return read_at(picture, u * scale, v * scale, cv2.BORDER_WRAP if border == "wrap" else cv2.BORDER_REPLICATE)


def matrix_2d(width: int, height: int, motion: Motion, original_flip: bool = False) -> Any:
    """(3, 3) float64, from old positions to new ones: translate, turn and zoom about the centre, then flip."""
    import cv2

    shift = np.array([[1, 0, motion.tx], [0, 1, motion.ty], [0, 0, 1]], dtype=np.float64)
    center = (width * motion.center[0], height * motion.center[1])
    turn = np.vstack([cv2.getRotationMatrix2D(center, motion.angle, motion.zoom), [0, 0, 1]])
    if motion.flip is None:
        return turn @ shift
    flip = flip_matrix(width, height, *motion.flip, original=original_flip)
    return flip @ turn if original_flip else flip @ turn @ shift


def flip_matrix(
    width: int, height: int, theta: float, phi: float, gamma: float, fv: float, original: bool = False
) -> Any:
    """(3, 3): the picture as a card turned in space, theta about the view, phi about x, gamma about y; degrees."""
    import cv2

    diagonal = math.hypot(width, height)
    half = math.radians(min(max(fv, 0.01), 179.0)) / 2
    side = diagonal / math.cos(half)
    distance = diagonal / (2 * math.sin(half))
    near, far = distance - diagonal / 2, distance + diagonal / 2
    cot = 1 / math.tan(half)
    projection = np.diag([cot, cot, (far + near) / (near - far), 1.0 if original else 0.0])
    projection[2, 3] = 2 * far * near / (near - far)
    projection[3, 2] = -1
    away = np.eye(4)
    away[2, 3] = -distance
    turn = np.eye(4)
    turn[:3, :3] = _turn("x", phi) @ _turn("y", gamma) @ _turn("z", theta)
    whole = projection @ away @ turn
    corners = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]]) * (width / 2, height / 2)
    seen = np.column_stack([corners, np.zeros(4), np.ones(4)]) @ whole.T
    if (seen[:, 3] <= 0).any():
        seen[:, 3] = np.maximum(seen[:, 3], 1e-6)
    before = (corners + (width / 2, height / 2)).astype(np.float32)
    after = ((seen[:, :2] / seen[:, 3:] + 1) * side / 2).astype(np.float32)
    card = cv2.getPerspectiveTransform(before, after)
    centred = np.array([[1, 0, (width - side) / 2], [0, 1, (height - side) / 2], [0, 0, 1]])
    return card @ centred if original else centred @ card


def grid_3d(width: int, height: int, motion: Motion, depth: Any = None) -> Any:
    """(H, W, 2) float32 tensor: where each pixel of the new picture is taken from, -1 to 1 over the old one's area."""
    import torch

    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    z = torch.ones_like(x) if depth is None else torch.from_numpy(np.asarray(depth, dtype=np.float32))
    points = torch.stack([x, y, z], dim=-1)
    still = replace(motion, tx=0, ty=0, tz=0, rotation=(0, 0, 0))
    identity = torch.nn.functional.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)
    return identity[0] - (project(points, motion) - project(points, still))


@lru_cache(maxsize=2)
def _plane_grid(width: int, height: int, motion: Motion) -> Any:
    """`grid_3d` of a plane, which several pictures of a frame are moved by."""
    return grid_3d(width, height, motion)


def project(points: Any, motion: Motion) -> Any:
    """(..., 3) points of the world to (..., 2) on the screen, both axes -1 to 1, after the camera's motion; tensors.

    Camera and lens are one (4, 4) float32 matrix on rows: values that lie on whole numbers are cut off afterwards, so
    that a repeated animation needs every bit.
    """
    import torch

    view = torch.eye(4)
    rx, ry, rz = (torch.tensor(math.radians(angle)) for angle in motion.rotation)
    view[:3, :3] = _rotation("x", rx) @ _rotation("y", ry) @ _rotation("z", rz)
    view[3, :3] = torch.tensor([-motion.tx / 200, motion.ty / 200, -motion.tz / 200])
    top = torch.tan(torch.tensor(math.radians(motion.fov)) / 2) * motion.near
    lens = torch.zeros(4, 4)
    lens[0, 0] = 2 * motion.near / (2 * (top * motion.aspect))
    lens[1, 1] = 2 * motion.near / (2 * top)
    lens[2, 3] = 1
    rows = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1).reshape(-1, 4)
    seen = rows @ (view @ lens)
    distance = torch.where(seen[:, 3:].abs() < 1e-6, 1e-6, seen[:, 3:])
    return (seen[:, :2] / distance).reshape(*points.shape[:-1], 2)


def _turn(axis: str, degrees: float) -> Any:
    """(3, 3) float64: a rotation about one axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(rows[axis])


def _rotation(axis: str, angle: Any) -> Any:
    """(3, 3) float32 tensor; angle: a tensor, in radians."""
    import torch

    c, s, one, nil = torch.cos(angle), torch.sin(angle), torch.tensor(1.0), torch.tensor(0.0)
    rows = {
        "x": (one, nil, nil, nil, c, -s, nil, s, c),
        "y": (c, nil, s, nil, one, nil, -s, nil, c),
        "z": (c, -s, nil, s, c, nil, nil, nil, one),
    }
    return torch.stack(rows[axis]).reshape(3, 3)


def sample(picture: Any, grid: Any, sampling: str, padding: str) -> Any:
    """The picture at the places of the grid, (H, W, C) float32."""
    import torch

    channels = torch.from_numpy(np.ascontiguousarray(picture)).float().permute(2, 0, 1)[None]
    sampled = torch.nn.functional.grid_sample(
        channels, grid[None], mode=sampling, padding_mode=padding, align_corners=False
    )
    return sampled[0].permute(1, 2, 0).numpy()


def depth_distances(depth: Any, near_is_large: bool) -> Any:
    """A depth estimate as distances from 1 (near) to 2 (far), evened out over its histogram.

    depth: (H, W). None comes back, for a plane, where the estimate is constant or not finite.
    """
    depth = np.asarray(depth, dtype=np.float64)
    low, high = depth.min(), depth.max()
    if not np.isfinite(depth).all() or low == high:
        return None
    even = equalise((depth - low) / (high - low))
    return 2 - even if near_is_large else 1 + even


def equalise(values: Any, bins: int = 1024) -> Any:
    """Values of 0 to 1, each replaced by the share of values that lie below or with it."""
    counts, edges = np.histogram(values, bins=bins, range=(0, 1))
    shares = np.cumsum(counts) / values.size
    return np.interp(values, edges[:-1], shares)
