"""Parts of pictures: of one size, about what matters in them, or of a size that suits them."""

from __future__ import annotations

import math
from typing import Any

from PIL import Image, ImageDraw

from webui.extensions.api import InvalidRequest, Params, param

LANCZOS = Image.Resampling.LANCZOS
LOOKED_AT = 640
"""Pixels of the longer side at which the focal point is looked for."""
STEP = 64
"""Pixels between the sides that an auto-sized crop chooses from."""


class SplitOversized(Params, title="Split oversized images"):
    """Pictures much longer than the size that Upscale is set to, cut into several of that size."""

    enabled: bool = param(False, label="Split oversized images")
    threshold: float = param(0.5, label="Threshold", ge=0, le=1, step=0.05)
    overlap: float = param(0.2, label="Overlap ratio", ge=0, le=0.9, step=0.05)


class FocalCrop(Params, title="Auto focal point crop"):
    """The part that matters most, at the size that Upscale is set to."""

    enabled: bool = param(False, label="Auto focal point crop")
    face_weight: float = param(0.9, label="Focal point face weight", ge=0, le=1, step=0.05)
    entropy_weight: float = param(0.15, label="Focal point entropy weight", ge=0, le=1, step=0.05)
    edges_weight: float = param(0.5, label="Focal point edges weight", ge=0, le=1, step=0.05)
    debug: bool = param(False, label="Create debug image")


class AutoSizedCrop(Params, title="Auto-sized crop"):
    """The middle, at the size between these bounds whose proportions come closest."""

    enabled: bool = param(False, label="Auto-sized crop")
    min_side: int = param(384, label="Dimension lower bound", ge=64, le=2048, step=8)
    max_side: int = param(768, label="Dimension upper bound", ge=64, le=2048, step=8)
    min_area: int = param(4096, label="Area lower bound", ge=4096, le=4_194_304, step=1)
    max_area: int = param(409_600, label="Area upper bound", ge=4096, le=4_194_304, step=1)
    objective: str = param(
        "Maximize area", label="Resizing objective", choices=("Maximize area", "Minimize error"), kind="radio"
    )
    threshold: float = param(0.1, label="Error threshold", ge=0, le=1, step=0.01)


def split(image: Image.Image, values: SplitOversized, context: Any) -> Image.Image:
    """The first part; the others are added. As it is where its proportions are close enough to the target's."""
    if not values.enabled:
        return image
    if context.target is None:
        context.tell("It is not split: Upscale, which says to what size, is left out.")
        return image
    width, height = context.target
    upright = image.height > image.width
    shape = image.width / image.height * height / width
    ratio = shape if upright else 1 / shape
    if ratio >= 1 or ratio > values.threshold:
        return image
    # Along the picture's longer side; across it the picture just fits.
    across, along = (width, height) if upright else (height, width)
    thick, long = image.size if upright else image.size[::-1]
    length = max(along, long * across // thick)
    _require_allowed(across, length, context)
    scaled = image.resize((across, length) if upright else (length, across), LANCZOS)
    count = max(1, math.ceil((length - along * values.overlap) / (along * (1 - values.overlap))))
    starts = [int((length - along) * index / max(1, count - 1)) for index in range(count)]
    boxes = [(0, at, across, at + along) if upright else (at, 0, at + along, across) for at in starts]
    first, *others = (scaled.crop(box) for box in boxes)
    for part in others:
        context.add(part)
    return first


def crop_to_focal_point(image: Image.Image, values: FocalCrop, context: Any) -> Image.Image:
    """The part of the target's size around the focal point, of the picture scaled to cover that size."""
    if not values.enabled:
        return image
    if context.target is None:
        context.tell("It is not cropped: Upscale, which says to what size, is left out.")
        return image
    width, height = context.target
    scale = max(width / image.width, height / image.height)
    size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    _require_allowed(*size, context)
    scaled = image.resize(size, LANCZOS)
    points = _points_of_interest(image, size, (width, height), values, context)
    total = sum(weight for _, weight in points.values())
    centre = (size[0] / 2, size[1] / 2)
    x, y = (
        sum(point[axis] * weight for point, weight in points.values()) / total if total else centre[axis]
        for axis in (0, 1)
    )
    left = min(max(round(x - width / 2), 0), size[0] - width)
    top = min(max(round(y - height / 2), 0), size[1] - height)
    box = left, top, left + width, top + height
    if values.debug:
        context.add(_drawn_on(scaled, box, points, (x, y)), "focal-crop-debug", finished=True)
    return scaled.crop(box)


def crop_to_fitting_size(image: Image.Image, values: AutoSizedCrop, context: Any) -> Image.Image:
    """The middle of the picture at the size of those allowed that suits it, by area first or by error first."""
    if not values.enabled:
        return image
    shape = image.width / image.height

    def error(size: tuple[int, int]) -> float:
        ratio = shape / (size[0] / size[1])
        return 1 - min(ratio, 1 / ratio)

    sides = range(values.min_side, values.max_side + 1, STEP)
    sizes = [(wide, high) for wide in sides for high in sides if values.min_area <= wide * high <= values.max_area]
    fitting = [size for size in sizes if error(size) <= values.threshold]
    if not fitting:
        context.tell(f"{image.width}x{image.height} is not cropped: no size within the bounds is like it.")
        return image
    by_area = values.objective == "Maximize area"
    chosen = max(fitting, key=lambda size: (size[0] * size[1], -error(size))[:: 1 if by_area else -1])
    wide = min(image.width, image.height * chosen[0] / chosen[1])
    high = min(image.height, image.width * chosen[1] / chosen[0])
    left, top = (image.width - wide) / 2, (image.height - high) / 2
    return image.resize(chosen, LANCZOS, (left, top, left + wide, top + high))


def _points_of_interest(
    image: Image.Image, size: tuple[int, int], crop: tuple[int, int], values: FocalCrop, context: Any
) -> dict[str, tuple[tuple[float, float], float]]:
    """Where faces, corners and detail are, in pixels of the scaled picture, each with its weight."""
    shrink = min(1.0, LOOKED_AT / max(size))
    small = image.resize((max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))), LANCZOS)
    found: dict[str, tuple[float, float] | None] = {}
    if values.face_weight:
        found["face"] = _centre_of_faces(small, context)
    if values.edges_weight:
        found["edges"] = _centre_of_corners(small)
    if values.entropy_weight:
        window = (max(1, round(crop[0] * shrink)), max(1, round(crop[1] * shrink)))
        found["entropy"] = _centre_of_detail(small, window)
    return {
        name: ((point[0] / shrink, point[1] / shrink), getattr(values, f"{name}_weight"))
        for name, point in found.items()
        if point is not None
    }


def _centre_of_faces(image: Image.Image, context: Any) -> tuple[float, float] | None:
    try:
        faces = context.find_faces(image)
    except InvalidRequest as error:
        context.tell(f"Faces have no weight in its crop. {error}")
        return None
    areas = [(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]) for face in faces]
    if not faces or not sum(areas):
        return None
    centres = [((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2) for face in faces]
    x, y = (
        sum(centre[axis] * area for centre, area in zip(centres, areas, strict=True)) / sum(areas) for axis in (0, 1)
    )
    return x, y


def _centre_of_corners(image: Image.Image) -> tuple[float, float] | None:
    import cv2
    import numpy as np

    distance = min(image.size) * 0.06
    corners = cv2.goodFeaturesToTrack(np.asarray(image.convert("L")), 100, 0.04, distance)
    if corners is None or not len(corners):
        return None
    x, y = corners.reshape(-1, 2).mean(0)
    return float(x), float(y)


def _centre_of_detail(image: Image.Image, window: tuple[int, int]) -> tuple[float, float] | None:
    """The middle of the window whose levels of grey tell most, along the side that it doesn't fill."""
    grey = image.convert("L")
    free_x, free_y = max(0, image.width - window[0]), max(0, image.height - window[1])
    starts = (
        [(x, 0) for x in range(0, free_x + 1, 4)] if free_x >= free_y else [(0, y) for y in range(0, free_y + 1, 4)]
    )

    def telling(start: tuple[int, int]) -> float:
        return grey.crop((*start, start[0] + window[0], start[1] + window[1])).entropy()

    left, top = max(starts, key=telling)
    return left + min(window[0], image.width) / 2, top + min(window[1], image.height) / 2


def _drawn_on(
    image: Image.Image,
    box: tuple[int, int, int, int],
    points: dict[str, tuple[tuple[float, float], float]],
    focus: tuple[float, float],
) -> Image.Image:
    """The picture with the crop, the points of interest and their mean."""
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline="green", width=2)
    radius = max(2, min(drawn.size) // 40)
    for point, colour in (
        *((point, {"face": "red", "edges": "blue", "entropy": "yellow"}[name]) for name, (point, _) in points.items()),
        (focus, "green"),
    ):
        draw.ellipse(
            (point[0] - radius, point[1] - radius, point[0] + radius, point[1] + radius), outline=colour, width=2
        )
    return drawn


def _require_allowed(width: int, height: int, context: Any) -> None:
    """Raises: InvalidRequest when a picture of that size is more than setting img_max_size_mp allows."""
    most = context.settings["img_max_size_mp"]
    if width * height > most * 1e6:
        raise InvalidRequest(
            f"The picture would be scaled to {width}x{height}, {width * height / 1e6:.0f} megapixels; setting "
            f"img_max_size_mp allows {most:g}."
        )
