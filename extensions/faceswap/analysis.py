"""Faces found and described: by insightface's networks where the user has them, else by the small free ones.

Pictures are (H, W, 3) uint8 RGB. Source: the contracts of insightface's models; SCRFD, Guo et al. 2021,
arXiv:2105.04714; ArcFace, Deng et al. 2018, arXiv:1801.07698.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.extensions.api import BadModelFile

from .faces import FEMALE, MALE, Face, nearest_to_centre
from .geometry import Pixels, alignment, cropped
from .onnx_file import read_head
from .sessions import Networks, run

PREFERRED = "buffalo_l"
STRIDES = (8, 16, 32)
ANCHORS = 2
DETECTION_SIDE = 640
MOST_OVERLAP = 0.4
WIDE = 1.5
"""How much wider than the face's box the crops are that insightface's further networks look at."""
TIGHT = 0.85
"""The same of the small network for age and gender, by the longer side of MTCNN's box."""
SMALL_SIDE = 112
FREE = Path(__file__).parent / "weights" / "age_gender.onnx"

FindFree = Callable[[Pixels], list[tuple[Any, Any, float]]]
"""(box, points, score) of each face of a picture, by the free detector."""


@dataclass(frozen=True)
class Roles:
    """Which file does what; None where there is none."""

    detector: Path | None = None
    recogniser: Path | None = None
    genderage: Path | None = None
    landmarks: tuple[Path, ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        return tuple(str(path) for path in (self.detector, self.recogniser, self.genderage, *self.landmarks))


def roles_in(models: Path) -> Roles:
    """What lies in models/insightface/models, buffalo_l before other packs. Files are told apart by their inputs.

    Raises: BadModelFile for a file that can't be read.
    """
    root = models / "insightface" / "models"
    packs = sorted(
        (folder for folder in root.glob("*") if folder.is_dir()), key=lambda f: (f.name != PREFERRED, f.name)
    )
    for pack in packs:
        found = roles_of(sorted(pack.glob("*.onnx")))
        if found != Roles():
            return found
    return Roles()


def roles_of(files: Iterable[Path]) -> Roles:
    return _told_apart(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=16)
def _told_apart(files: tuple[tuple[Path, int, int], ...]) -> Roles:
    """files: with size and time of change, so that a new file is looked at anew."""
    found = Roles()
    for file, _, _ in files:
        head = read_head(file)
        shapes = list(head.inputs.values())
        height, width = shapes[0][2:] if shapes and len(shapes[0]) == 4 else (0, 0)
        if len(head.outputs) >= 5:
            found = replace(found, detector=found.detector or file)
        elif len(shapes) != 1:
            continue
        elif (height, width) == (192, 192):
            found = replace(found, landmarks=(*found.landmarks, file))
        elif (height, width) == (96, 96):
            found = replace(found, genderage=found.genderage or file)
        elif height == width and isinstance(height, int) and height >= 112 and height % 16 == 0:
            found = replace(found, recogniser=found.recogniser or file)
    return found


@dataclass(frozen=True)
class Analyser:
    """Finds faces. free: used where there is no detector of insightface's."""

    networks: Networks
    roles: Roles
    free: FindFree

    def find(self, pixels: Pixels, threshold: float, most: int, identities: bool = True) -> list[Face]:
        """The faces of a picture, in no order. identities: who they are, too, as far as there is a recogniser.

        Raises: BadModelFile.
        """
        faces = self._detected(pixels, threshold)
        faces = nearest_to_centre(faces, most, (pixels.shape[1], pixels.shape[0]))
        return [self._described(pixels, face, identities) for face in faces]

    def _detected(self, pixels: Pixels, threshold: float) -> list[Face]:
        if self.roles.detector is None:
            found = self.free(pixels)
            faces = (
                Face(np.array(box, np.float32), np.array(points, np.float32), score) for box, points, score in found
            )
            return [face for face in faces if face.score >= threshold]
        with self.networks.session(self.roles.detector) as session:
            name = self.roles.detector.name
            for side in (DETECTION_SIDE, DETECTION_SIDE // 2):
                if faces := detected(session, pixels, threshold, side, name):
                    return faces
        return []

    def _described(self, pixels: Pixels, face: Face, identities: bool) -> Face:
        roles = self.roles
        if identities and roles.recogniser is not None:
            with self.networks.session(roles.recogniser) as session:
                face = replace(face, embedding=recognised(session, pixels, face, roles.recogniser.name))
        if roles.genderage is not None:
            with self.networks.session(roles.genderage) as session:
                gender, age = gender_and_age(session, pixels, face, roles.genderage.name)
        else:
            with self.networks.session(FREE) as session:
                gender, age = free_gender_and_age(session, pixels, face)
        face = replace(face, gender=gender, age=age)
        for path in roles.landmarks:
            with self.networks.session(path) as session:
                face = with_landmarks(session, pixels, face, path.name)
        return face


def detected(session: Any, pixels: Pixels, threshold: float, side: int, name: str) -> list[Face]:
    """By SCRFD, on the picture brought to `side`. Raises: BadModelFile for a network of another kind."""
    given = session.get_inputs()[0]
    canvas = next((size for size in given.shape[2:] if isinstance(size, int)), side)
    side = min(side, canvas)
    height, width = pixels.shape[:2]
    tall = height / width > 1
    new_height = side if tall else max(int(side * height / width), 1)
    new_width = max(int(side * width / height), 1) if tall else side
    scale = new_height / height
    small = np.zeros((canvas, canvas, 3), np.uint8)
    small[:new_height, :new_width] = cv2.resize(pixels, (new_width, new_height))
    x = (small.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 128
    answers = run(session, {given.name: x}, name)
    if len(answers) != 3 * len(STRIDES):
        raise BadModelFile(
            f"{name} is no detector that tells five points of each face: it gives {len(answers)} outputs."
        )
    boxes, points, scores = [], [], []
    for level, stride in enumerate(STRIDES):
        score, box, point = (
            np.asarray(answers[level + part * len(STRIDES)], np.float32).reshape(-1, many)
            for part, many in enumerate((1, 4, 10))
        )
        cells = canvas // stride
        if not len(score) == len(box) == len(point) == cells * cells * ANCHORS:
            raise BadModelFile(
                f"{name} gives {len(score)} candidates for steps of {stride} pixels, which no SCRFD does."
            )
        sure = np.nonzero(score[:, 0] >= threshold)[0]
        cell = sure // ANCHORS
        centres = np.stack([cell % cells, cell // cells], 1).astype(np.float32) * stride
        away = box[sure] * stride
        boxes.append(np.concatenate([centres - away[:, :2], centres + away[:, 2:]], 1))
        points.append(centres[:, None] + point[sure].reshape(-1, 5, 2) * stride)
        scores.append(score[sure, 0])
    box, point, score = np.concatenate(boxes) / scale, np.concatenate(points) / scale, np.concatenate(scores)
    return [Face(box[i], point[i], float(score[i])) for i in kept_of(box, score)]


def kept_of(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> list[int]:
    """The boxes that no surer one overlaps, the surest first; a box from 0 to 1 is two pixels wide."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        corner = np.maximum(boxes[best, :2], boxes[rest, :2])
        end = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.maximum(end - corner + 1, 0).prod(1)
        order = rest[shared / (areas[best] + areas[rest] - shared) <= MOST_OVERLAP]
    return kept


def around(pixels: Pixels, face: Face, side: int, wide: float) -> tuple[Pixels, NDArray[Any]]:
    """A square crop around the face's box, and the matrix (2, 3) to it."""
    width, height = face.box[2] - face.box[0], face.box[3] - face.box[1]
    scale = side / (max(float(max(width, height)), 1.0) * wide)
    centre = (face.box[:2] + face.box[2:]) / 2
    shift = side / 2 - centre * scale
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float64)
    return cropped(pixels, matrix, side), matrix


def as_input(crop: Pixels) -> NDArray[np.float32]:
    return np.ascontiguousarray(crop.astype(np.float32).transpose(2, 0, 1)[None])


def recognised(session: Any, pixels: Pixels, face: Face, name: str) -> NDArray[np.float32]:
    given = session.get_inputs()[0]
    side = given.shape[2]
    crop = cropped(pixels, alignment(face.points.astype(np.float64), side), side)
    found = np.asarray(run(session, {given.name: (as_input(crop) - 127.5) / 127.5}, name)[0], np.float32).reshape(-1)
    if found.shape != (512,):
        raise BadModelFile(f"{name} tells a face by {found.size} numbers; swappers want 512, as w600k_r50.onnx gives.")
    return found


def gender_and_age(session: Any, pixels: Pixels, face: Face, name: str) -> tuple[int, int]:
    crop, _ = around(pixels, face, 96, WIDE)
    answer = np.asarray(run(session, {session.get_inputs()[0].name: as_input(crop)}, name)[0], np.float32).reshape(-1)
    if answer.size != 3:
        raise BadModelFile(f"{name} is no network for gender and age: it gives {answer.size} numbers.")
    return int(answer[:2].argmax()), round(float(answer[2]) * 100)


def free_gender_and_age(session: Any, pixels: Pixels, face: Face) -> tuple[int, int]:
    crop, _ = around(pixels, face, SMALL_SIDE, TIGHT)
    age, gender = run(session, {"input": as_input(crop)}, FREE.name)
    return (MALE if gender[0, 0] > gender[0, 1] else FEMALE), max(round(float(age[0, 0])), 0)


def with_landmarks(session: Any, pixels: Pixels, face: Face, name: str) -> Face:
    """The face with the points that this network tells: 106 flat ones, or 68 in space."""
    crop, matrix = around(pixels, face, 192, WIDE)
    answer = np.asarray(run(session, {session.get_inputs()[0].name: as_input(crop)}, name)[0], np.float32).reshape(-1)
    back = cv2.invertAffineTransform(matrix)
    if answer.size == 212:
        flat = (answer.reshape(-1, 2) + 1) * 96
        return replace(face, contour=(flat @ back[:, :2].T + back[:, 2]).astype(np.float32))
    if answer.size == 3309:
        spatial = answer.reshape(-1, 3)[-68:] * 96
        spatial[:, :2] = (spatial[:, :2] + 96) @ back[:, :2].T + back[:, 2]
        spatial[:, 2] *= back[0, 0]
        return replace(face, spatial=spatial, pose=pose_of(spatial))
    raise BadModelFile(f"{name} is no network for landmarks: it gives {answer.size} numbers.")


def pose_of(spatial: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pitch, yaw and roll in degrees, of the axes from eye to eye and from eyes to mouth."""
    right, left, mouth = spatial[36:42].mean(0), spatial[42:48].mean(0), spatial[48:68].mean(0)
    across = left - right
    across = across / max(float(np.linalg.norm(across)), 1e-6)
    down = mouth - (left + right) / 2
    down = down - across * float(down @ across)
    down = down / max(float(np.linalg.norm(down)), 1e-6)
    pitch, yaw = np.arcsin(np.clip(-down[2], -1, 1)), np.arcsin(np.clip(across[2], -1, 1))
    roll = np.arctan2(across[1], across[0])
    return np.degrees([pitch, yaw, roll]).astype(np.float32)
