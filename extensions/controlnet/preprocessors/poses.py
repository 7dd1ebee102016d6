"""Poses: OpenPose's JSON, and the picture that a network for poses reads.

A pose is a mapping of plain values, as sd-webui-controlnet and its editor exchange it:

    {"people": [{"pose_keypoints_2d": [x, y, confidence, ...], "hand_left_keypoints_2d": ..., "hand_right_keypoints_2d":
    ..., "face_keypoints_2d": ...}], "animals": [[x, y, confidence, ...]], "canvas_width": 512, "canvas_height": 768}

A body has 18 points in COCO's order with the neck second, a hand 21, a face 68 or 70, an animal 17 in the order of
AP-10K. A list may be missing or null. Coordinates are pixels; those of a list that all lie within 0 to 1 are shares of
the canvas. A point of confidence 0 isn't there.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from webui.extensions.api import InvalidRequest

Picture = Any
Point = tuple[float, float] | None
"""In pixels; None for one that wasn't found."""

BODY_POINTS, HAND_POINTS, ANIMAL_POINTS = 18, 21, 17
LARGEST_SIDE, FARTHEST, MOST_FIGURES = 16384, 1e5, 1000

LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""Of joints; a limb has 6/10 of its own."""
FINGERS = tuple(
    (0 if step == 0 else 4 * finger + step, 4 * finger + step + 1) for finger in range(5) for step in range(4)
)
FROM_COCO = (0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""Which of COCO's points each of OpenPose's is; 17 is the neck."""
ANIMAL_LIMBS = (
    (0, 1), (1, 2), (0, 2), (2, 3), (3, 8), (8, 9), (9, 10), (3, 5), (5, 6), (6, 7), (3, 4), (4, 14), (14, 15),
    (15, 16), (4, 11), (11, 12), (12, 13),
)  # fmt: skip
ANIMAL_COLOURS = (
    (255, 255, 255), (100, 255, 100), (150, 255, 255), (100, 50, 255), (50, 150, 200), (0, 255, 255), (0, 150, 0),
    (0, 0, 255), (0, 0, 150), (255, 50, 255), (255, 0, 255), (255, 0, 0), (150, 0, 0), (255, 255, 100), (0, 150, 0),
    (255, 255, 0), (150, 150, 150),
)  # fmt: skip
HALF_WIDTH = 4
"""Pixels: of limbs, and the radius of joints."""
NEAR_EDGE = 0.01
"""Points of hands and faces that lie no farther than this from the left or upper edge were not found."""


def draw_poses(pose: Mapping[str, Any], *, bodies: bool = True, hands: bool = True, faces: bool = True) -> Picture:
    """(canvas_height, canvas_width, 3) uint8: every figure in OpenPose's colours, on black.

    bodies, hands, faces: whether these are drawn. Raises: InvalidRequest for what is no pose.
    """
    width, height = _side(pose, "canvas_width"), _side(pose, "canvas_height")
    canvas = np.zeros((height, width, 3), np.uint8)
    for person in _figures(pose, "people"):
        if not isinstance(person, Mapping):
            raise InvalidRequest("Each of the people of a pose is an object with pose_keypoints_2d.")
        if bodies:
            _draw_body(canvas, _points(person, "pose_keypoints_2d", BODY_POINTS, canvas))
        if hands:
            _draw_hand(canvas, _points(person, "hand_left_keypoints_2d", HAND_POINTS, canvas))
            _draw_hand(canvas, _points(person, "hand_right_keypoints_2d", HAND_POINTS, canvas))
        if faces:
            _draw_face(canvas, _points(person, "face_keypoints_2d", 0, canvas))
    for animal in _figures(pose, "animals"):
        _draw_animal(canvas, _points({"animals": animal}, "animals", ANIMAL_POINTS, canvas))
    return canvas


def flat(points: Sequence[Point] | None) -> list[float] | None:
    """Points as the JSON has them: x, y, 1 of each, 0, 0, 0 for one that wasn't found."""
    if points is None:
        return None
    return [value for point in points for value in ((0.0, 0.0, 0.0) if point is None else (*map(float, point), 1.0))]


def person(
    body: Sequence[Point],
    left_hand: Sequence[Point] | None = None,
    right_hand: Sequence[Point] | None = None,
    face: Sequence[Point] | None = None,
) -> dict[str, list[float] | None]:
    """One of the `people` of a pose."""
    return {
        "pose_keypoints_2d": flat(body),
        "face_keypoints_2d": flat(face),
        "hand_left_keypoints_2d": flat(left_hand),
        "hand_right_keypoints_2d": flat(right_hand),
    }


def body_from_coco(points: Sequence[Point]) -> list[Point]:
    """OpenPose's 18 points of a body from COCO's 17: the neck is half way between the shoulders."""
    left, right = points[5], points[6]
    neck = None if left is None or right is None else ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
    all_points = [*points[:17], neck]
    return [all_points[index] for index in FROM_COCO]


def pose(people: Sequence[Mapping[str, Any]], width: int, height: int, animals: Sequence[Any] = ()) -> dict[str, Any]:
    """All figures of a picture of width x height pixels."""
    return {"people": [*people], "animals": [*animals], "canvas_width": width, "canvas_height": height}


def _side(pose: Mapping[str, Any], name: str) -> int:
    value = pose.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= LARGEST_SIDE:
        raise InvalidRequest(f"A pose needs a {name} of 1 to {LARGEST_SIDE} pixels; this one has {_shown(value)}.")
    return int(value)


def _figures(pose: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = pose.get(name) or ()
    if not isinstance(found, list | tuple) or len(found) > MOST_FIGURES:
        raise InvalidRequest(f'"{name}" of a pose is a list of up to {MOST_FIGURES}.')
    return found


def _points(figure: Mapping[str, Any], name: str, count: int, canvas: Picture) -> list[Point]:
    """The points of one list in pixels; [] when it isn't there. count: how many there must be, 0 for any number."""
    values = figure.get(name)
    if not values:
        return []
    if not isinstance(values, list | tuple) or not all(_is_place(value) for value in values):
        raise InvalidRequest(f"{name} of a pose is a list of numbers up to {FARTHEST:g}.")
    found = len(values) // 3
    if len(values) % 3 or (count and found < count):
        wanted = f"{count} points" if count else "points"
        raise InvalidRequest(f"{name} of a pose has x, y, confidence of {wanted}; this one has {len(values)} numbers.")
    triples = [tuple(map(float, values[start : start + 3])) for start in range(0, 3 * (count or found), 3)]
    present = [triple[:2] for triple in triples if triple[2] > 0]
    shares = all(0 <= abs(value) <= 1 for place in present for value in place)
    height, width = canvas.shape[:2] if shares else (1, 1)
    return [(x * width, y * height) if confidence > 0 else None for x, y, confidence in triples]


def _is_place(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= FARTHEST


def _shown(value: Any) -> str:
    return repr(value)[:40]


def _draw_body(canvas: Picture, points: Sequence[Point]) -> None:
    if not points:
        return
    for (start, end), colour in zip(LIMBS, COLOURS, strict=False):
        first, second = points[start], points[end]
        if first is None or second is None:
            continue
        (x1, y1), (x2, y2) = first, second
        middle = int((x1 + x2) / 2), int((y1 + y2) / 2)
        angle = int(math.degrees(math.atan2(y1 - y2, x1 - x2)))
        axes = int(math.hypot(x1 - x2, y1 - y2) / 2), HALF_WIDTH
        limb = cv2.ellipse2Poly(middle, axes, angle, 0, 360, 1)
        cv2.fillConvexPoly(canvas, limb, [int(part * 0.6) for part in colour])
    for point, colour in zip(points, COLOURS, strict=False):
        if point is not None:
            cv2.circle(canvas, _pixel(point), HALF_WIDTH, colour, thickness=-1)


def _draw_hand(canvas: Picture, points: Sequence[Point]) -> None:
    if not points:
        return
    for number, (start, end) in enumerate(FINGERS):
        first, second = _shown_point(points[start]), _shown_point(points[end])
        if first is not None and second is not None:
            colour = [part * 255 for part in colorsys.hsv_to_rgb(number / len(FINGERS), 1, 1)]
            cv2.line(canvas, first, second, colour, thickness=2)
    for point in map(_shown_point, points):
        if point is not None:
            cv2.circle(canvas, point, HALF_WIDTH, (0, 0, 255), thickness=-1)


def _draw_face(canvas: Picture, points: Sequence[Point]) -> None:
    for point in map(_shown_point, points):
        if point is not None:
            cv2.circle(canvas, point, 3, (255, 255, 255), thickness=-1)


def _draw_animal(canvas: Picture, points: Sequence[Point]) -> None:
    if not points:
        return
    for (start, end), colour in zip(ANIMAL_LIMBS, ANIMAL_COLOURS, strict=True):
        first, second = points[start], points[end]
        if first is not None and second is not None:
            cv2.line(canvas, _pixel(first), _pixel(second), colour, thickness=5)


def _shown_point(point: Point) -> tuple[int, int] | None:
    """A point of a hand or a face, None where it isn't drawn."""
    if point is None or int(point[0]) <= NEAR_EDGE or int(point[1]) <= NEAR_EDGE:
        return None
    return _pixel(point)


def _pixel(point: tuple[float, float]) -> tuple[int, int]:
    return int(point[0]), int(point[1])
