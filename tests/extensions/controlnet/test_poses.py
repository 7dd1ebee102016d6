"""Poses: JSON to a picture."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from extensions.controlnet.preprocessors import poses
from webui.extensions.api import InvalidRequest

STANDING: list[tuple[float, float]] = [
    (128, 40), (128, 70), (100, 70), (90, 110), (85, 150), (156, 70), (166, 110), (171, 150), (110, 150), (108, 200),
    (106, 250), (146, 150), (148, 200), (150, 250), (120, 34), (136, 34), (112, 38), (144, 38),
]  # fmt: skip
HAND = [(20.0 + 8 * finger + step, 60.0 + 6 * step) for finger in range(5) for step in range(4)] + [(40.0, 90.0)]
FACE = [(60.0 + number % 10 * 4, 20.0 + number // 10 * 4) for number in range(70)]


def standing(**more: Any) -> dict[str, Any]:
    return {"people": [poses.person(STANDING)], "animals": [], "canvas_width": 256, "canvas_height": 288} | more


def test_a_body_has_the_colours_of_openpose() -> None:
    picture = poses.draw_poses(standing())
    assert (picture.shape, picture.dtype) == ((288, 256, 3), np.uint8)
    for (x, y), colour in zip(STANDING, poses.COLOURS, strict=True):
        assert tuple(picture[int(y), int(x)]) == tuple(colour)
    assert tuple(picture[90, 95]) == (153, 102, 0)  # the right upper arm: the third colour, 6/10 of it
    assert tuple(picture[130, 87]) == (153, 153, 0)
    assert not picture[280].any()
    first = {tuple(colour) for colour in poses.COLOURS}
    dim = {tuple(int(part * 0.6) for part in colour) for colour in poses.COLOURS}
    assert {tuple(map(int, colour)) for colour in picture.reshape(-1, 3)} <= first | dim | {(0, 0, 0)}


def test_shares_of_the_canvas_and_pixels_draw_the_same() -> None:
    shares = [(x / 256, y / 288) for x, y in STANDING]
    assert (poses.draw_poses(standing(people=[poses.person(shares)])) == poses.draw_poses(standing())).all()


def test_a_pose_comes_through_json_unchanged() -> None:
    pose = standing(people=[poses.person(STANDING, HAND, None, FACE)])
    again = json.loads(json.dumps(pose))
    assert again == pose
    assert (poses.draw_poses(again) == poses.draw_poses(pose)).all()


def test_what_was_not_found_is_not_drawn() -> None:
    points: list[poses.Point] = list(STANDING)
    points[3] = None  # the right elbow
    picture = poses.draw_poses(standing(people=[poses.person(points)]))
    assert not picture[90, 95].any()
    assert tuple(picture[150, 85]) == tuple(poses.COLOURS[4])  # the wrist stays
    assert not poses.draw_poses(standing(people=[poses.person([None] * 18)])).any()


def test_hands_and_faces_are_drawn_unless_unwanted() -> None:
    pose = standing(people=[poses.person([None] * 18, HAND, None, FACE)])
    picture = poses.draw_poses(pose)
    for x, y in HAND:
        assert tuple(picture[int(y), int(x)]) == (0, 0, 255)
    assert tuple(picture[20, 60]) == (255, 255, 255)
    assert not poses.draw_poses(pose, hands=False, faces=False).any()
    alone = poses.draw_poses(pose, hands=False)
    assert alone[20, 60].any()
    assert not alone[60:].any()


def test_animals_are_drawn() -> None:
    points = [(20.0 + 12 * number, 40.0 + 10 * (number % 5)) for number in range(17)]
    picture = poses.draw_poses(standing(people=[], animals=[poses.flat(points)]))
    assert tuple(picture[65, 170]) == poses.ANIMAL_COLOURS[-1]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"canvas_width": 0}, "canvas_width of 1 to 16384"),
        ({"canvas_height": "tall"}, "canvas_height"),
        ({"canvas_width": 10**9}, "canvas_width"),
        ({"people": "all"}, "people"),
        ({"people": [3]}, "object"),
        ({"people": [{"pose_keypoints_2d": [1, 2, 1]}]}, "18 points; this one has 3 numbers"),
        ({"people": [{"pose_keypoints_2d": ["x"] * 54}]}, "numbers"),
        ({"people": [{"face_keypoints_2d": [float("nan"), 1, 1]}]}, "numbers"),
        ({"people": [{"face_keypoints_2d": [1e30, 1, 1]}]}, "numbers"),
        ({"animals": [[1, 2]]}, "17 points"),
    ],
)
def test_what_is_no_pose_is_refused_in_a_sentence(fault: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        poses.draw_poses(standing(**fault))


def test_a_pose_may_leave_everything_out_but_its_size() -> None:
    assert poses.draw_poses({"canvas_width": 8, "canvas_height": 9}).shape == (9, 8, 3)
    outside = [(x - 500, y + 900) for x, y in STANDING]
    assert not poses.draw_poses(standing(people=[poses.person(outside)])).any()
