"""People by OpenPose (Cao et al. 2019) as ControlNet uses it: bodies, hands and faces. A pose is what `poses` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import poses
from .loading import filled, quietly
from .movenet import load_movenet

Picture = Any
Detect = Callable[[Picture, float, float], dict[str, Any]]


def load_body(files: Sequence[Path], device: Any) -> Detect:
    """Bodies alone: by OpenPose's network, or by the one that ships where that isn't there."""
    if files[0].suffix == ".json":
        return load_movenet(files, device)
    return load_openpose(files, device)


def load_openpose(files: Sequence[Path], device: Any, *, hands: bool = False, faces: bool = False) -> Detect:
    """files: of the body's network, then the hands' and the faces' if they are wanted."""
    with quietly():
        from controlnet_aux.open_pose import Body, Face, Hand, OpenposeDetector
        from controlnet_aux.open_pose.face import FaceNet
        from controlnet_aux.open_pose.model import bodypose_model, handpose_model

    paths = list(files)
    # Their constructors read files by torch.load, so they are made without.
    body, hand, face = Body.__new__(Body), Hand.__new__(Hand), Face.__new__(Face)
    body.model = filled(bodypose_model(), paths.pop(0), device, _without_stage)
    if hands:
        hand.model = filled(handpose_model(), paths.pop(0), device, _without_stage)
    if faces:
        face.model = filled(FaceNet(), paths.pop(0), device)
    detector = OpenposeDetector(body, hand, face)

    def detect(picture: Picture, _a: float, _b: float) -> dict[str, Any]:
        height, width = picture.shape[:2]
        found = detector.detect_poses(picture, include_hand=hands, include_face=faces)

        def pixels(points: Any) -> list[poses.Point] | None:
            if points is None:
                return None
            return [
                None if point is None or min(point.x, point.y) < 0 else (point.x * width, point.y * height)
                for point in points
            ]

        people = [
            poses.person(pixels(pose.body.keypoints) or [], *map(pixels, (pose.left_hand, pose.right_hand, pose.face)))
            for pose in found
        ]
        return poses.pose(people, width, height)

    return detect


def _without_stage(name: str) -> str:
    """The file knows layers without the stage that they stand in: model0.conv1_1 is conv1_1."""
    return name.partition(".")[2]


def load_faces(files: Sequence[Path], device: Any) -> Detect:
    """Faces alone; the bodies, by which they are found, aren't told."""
    detect_all = load_openpose(files, device, faces=True)

    def detect(picture: Picture, a: float, b: float) -> dict[str, Any]:
        found = detect_all(picture, a, b)
        return found | {"people": [{**person, "pose_keypoints_2d": None} for person in found["people"]]}

    return detect


load_with_hands = partial(load_openpose, hands=True)
load_with_faces = partial(load_openpose, faces=True)
load_full = partial(load_openpose, hands=True, faces=True)
