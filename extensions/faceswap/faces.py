"""Faces that were found in a picture, and which of them are meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEMALE, MALE = 0, 1
WANTED = {"Female Only": FEMALE, "Male Only": MALE}


@dataclass(frozen=True)
class Face:
    """box: left, top, right, bottom; points: (5, 2); both in pixels. score: 0 to 1.

    embedding: (512,) who it is, None where nothing tells. gender: FEMALE, MALE or None. age: years.
    contour: (n, 2) points of the face's outline and parts; spatial: (68, 3); pose: degrees.
    """

    box: NDArray[np.float32]
    points: NDArray[np.float32]
    score: float
    embedding: NDArray[np.float32] | None = None
    gender: int | None = None
    age: int | None = None
    contour: NDArray[np.float32] | None = None
    spatial: NDArray[np.float32] | None = None
    pose: NDArray[np.float32] | None = None

    @property
    def area(self) -> float:
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    @property
    def described(self) -> str:
        sex = {FEMALE: "female", MALE: "male"}.get(self.gender if self.gender is not None else -1)
        return ", ".join([*([sex] if sex else []), *([str(self.age)] if self.age is not None else [])]) or "unknown"


KEYS: Mapping[str, Callable[[Face], float]] = {
    "left-right": lambda face: float(face.box[0]),
    "right-left": lambda face: -float(face.box[0]),
    "top-bottom": lambda face: float(face.box[1]),
    "bottom-top": lambda face: -float(face.box[1]),
    "large-small": lambda face: -face.area,
    "small-large": lambda face: face.area,
}


def chosen(faces: Sequence[Face], gender: str, order: str) -> list[Face]:
    """The faces of that gender, in that order; numbers count among them. Ties: the surer one first."""
    wanted = WANTED.get(gender)
    fitting = [face for face in faces if wanted is None or face.gender == wanted]
    return sorted(fitting, key=lambda face: (KEYS[order](face), -face.score))


def nearest_to_centre(faces: Sequence[Face], most: int, size: tuple[int, int]) -> list[Face]:
    """At most that many: the large ones in the middle. size: (width, height). most: 0 for all."""
    if not 0 < most < len(faces):
        return list(faces)

    def worth(face: Face) -> float:
        centre = (face.box[:2] + face.box[2:]) / 2 - np.array(size) / 2
        return face.area - 2 * float((centre**2).sum())

    return sorted(faces, key=worth, reverse=True)[:most]


FIELDS: Mapping[str, tuple[int, ...]] = {
    "bbox": (4,), "kps": (5, 2), "det_score": (), "landmark_3d_68": (68, 3), "pose": (3,),
    "landmark_2d_106": (106, 2), "embedding": (512,), "gender": (), "age": (),
}  # fmt: skip


def to_tensors(face: Face) -> dict[str, Any]:
    """A face as a face model's file holds it; what isn't known is 0. The face has an embedding."""
    assert face.embedding is not None
    known = {
        "bbox": face.box, "kps": face.points, "det_score": face.score, "landmark_3d_68": face.spatial,
        "pose": face.pose, "landmark_2d_106": face.contour, "embedding": face.embedding,
    }  # fmt: skip
    tensors: dict[str, Any] = {
        name: np.zeros(FIELDS[name], np.float32) if value is None else np.array(value, np.float32).reshape(FIELDS[name])
        for name, value in known.items()
    }
    tensors |= {"gender": np.array(face.gender or 0, np.int32), "age": np.array(face.age or 0, np.int32)}
    return tensors


def from_tensors(tensors: Mapping[str, Any]) -> Face:
    """The opposite of `to_tensors`. Raises: KeyError, ValueError for what is no face model."""
    read = {name: np.asarray(tensors[name], np.float32) for name in ("bbox", "kps", "embedding")}
    if read["embedding"].shape != (512,) or not np.isfinite(read["embedding"]).all() or not read["embedding"].any():
        raise ValueError("its embedding isn't 512 numbers")

    def whole(name: str) -> int | None:
        return int(np.asarray(tensors[name]).reshape(-1)[0]) if name in tensors else None

    score = float(np.asarray(tensors["det_score"]).reshape(-1)[0]) if "det_score" in tensors else 1.0
    further = {
        field: np.asarray(tensors[name], np.float32)
        for field, name in (("contour", "landmark_2d_106"), ("spatial", "landmark_3d_68"), ("pose", "pose"))
        if name in tensors
    }
    points, box = read["kps"].reshape(5, 2), read["bbox"].reshape(4)
    return Face(box, points, score, read["embedding"], whole("gender"), whole("age"), **further)
