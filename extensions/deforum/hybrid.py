"""A source video in the loop: its frames laid over the pictures, and its motion given to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .flow import agreement, along, optical_flow

RATIO = 0.75
"""A match of features counts if it is this much closer than the second best."""


@dataclass(frozen=True)
class Composite:
    """How a video frame is laid over a picture.

    alpha: share of it, 0 to 1. mask: "None", "Depth", "Video Depth", "Blend" or "Difference"; the picture shows where
    it is white. equalize: "None", "Before", "After" or "Both". cutoffs: low and high percent of the auto contrast.
    """

    alpha: float
    mask: str = "None"
    inverse: bool = False
    equalize: str = "None"
    contrast: float = 1
    cutoffs: tuple[float, float] | None = None
    mask_alpha: float = 0.5


def composite(picture: Any, video: Any, how: Composite, depth: Any = None) -> Any:
    """The video frame over the picture; both (H, W, 3) uint8 BGR.

    depth: (H, W) distances of 1 to 2 for the masks of depth, whose near points are white.
    """
    from PIL import Image

    top, bottom = Image.fromarray(picture[..., ::-1]), Image.fromarray(video[..., ::-1])
    mask = _mask(picture, video, how, depth)
    mixed = bottom if mask is None else Image.composite(top, bottom, mask)
    return np.ascontiguousarray(np.asarray(Image.blend(top, mixed, min(max(how.alpha, 0.0), 1.0)))[..., ::-1])


def _mask(picture: Any, video: Any, how: Composite, depth: Any) -> Any:
    from PIL import Image, ImageChops, ImageEnhance, ImageOps

    if how.mask == "None":
        return None
    grays = [Image.fromarray(np.ascontiguousarray(one[..., ::-1])).convert("L") for one in (picture, video)]
    if how.mask == "Blend":
        mask = Image.blend(*grays, min(max(how.mask_alpha, 0.0), 1.0))
    elif how.mask == "Difference":
        mask = ImageChops.difference(*grays)
    elif depth is None:
        return None
    else:
        mask = Image.fromarray(np.round((2 - np.asarray(depth)) * 255).clip(0, 255).astype(np.uint8))
    if how.inverse:
        mask = ImageOps.invert(mask)
    if how.equalize in ("Before", "Both"):
        mask = ImageOps.equalize(mask)
    mask = ImageEnhance.Contrast(mask).enhance(how.contrast)
    if how.cutoffs is not None:
        low, high = (min(max(cutoff, 0.0), 100.0) for cutoff in how.cutoffs)
        mask = ImageOps.autocontrast(mask, cutoff=(low, 100 - high) if low < high else (0, 0))
    if how.equalize in ("After", "Both"):
        mask = ImageOps.equalize(mask)
    return mask


def move_by_features(picture: Any, first: Any, second: Any, kind: str) -> Any:
    """The picture moved as `second` is to `first`; unchanged where too few features are found in both.

    kind: "Affine" (shift, turn and scale) or "Perspective".
    """
    import cv2

    matrix = feature_matrix(first, second, kind)
    if matrix is None:
        return picture
    height, width = picture.shape[:2]
    warp = cv2.warpPerspective if kind == "Perspective" else cv2.warpAffine
    return warp(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)


def feature_matrix(first: Any, second: Any, kind: str) -> Any:
    """From places in `first` to those in `second`: (3, 3), or (2, 3) for "Affine"; None if they can't be told."""
    import cv2

    grays = [cv2.cvtColor(one, cv2.COLOR_BGR2GRAY) for one in (first, second)]
    sift = cv2.SIFT_create()
    (points, features), (others, other_features) = (sift.detectAndCompute(gray, None) for gray in grays)
    if features is None or other_features is None or len(other_features) < 2:
        return None
    pairs = cv2.BFMatcher().knnMatch(features, other_features, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < RATIO * pair[1].distance]
    if len(good) < (4 if kind == "Perspective" else 3):
        return None
    source = np.float32([points[match.queryIdx].pt for match in good]).reshape(-1, 1, 2)
    target = np.float32([others[match.trainIdx].pt for match in good]).reshape(-1, 1, 2)
    if kind == "Perspective":
        return cv2.findHomography(source, target, cv2.RANSAC, 5.0)[0]
    return cv2.estimateAffinePartial2D(source, target)[0]


def move_by_flow(
    picture: Any, first: Any, second: Any, method: str, factor: float, consistent: bool = False, blur: int = 0
) -> Any:
    """The picture moved along the flow from `first` to `second`.

    consistent: only where the flow back leads to the beginning, with edges softened by `blur`.
    """
    forward = optical_flow(first, second, method)
    if consistent:
        forward = forward * agreement(forward, optical_flow(second, first, method), blur)[..., None]
    return along(picture, forward, factor)
