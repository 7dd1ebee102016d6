"""Maps of pictures that a client sends, made in a job of their own: networks run in the worker only."""

from __future__ import annotations

import json
from dataclasses import dataclass

from webui.extensions.api import Easel, JobContext, JobKind, encode_image

from .units import Unit


@dataclass(frozen=True)
class Detection:
    """units: one a picture, with the files of its network found."""

    units: tuple[Unit, ...]


@dataclass(frozen=True)
class Detected:
    """pictures: the maps, PNG. poses: OpenPose's JSON of each, () when the preprocessor finds none."""

    pictures: tuple[bytes, ...]
    poses: tuple[str, ...] = ()


def run(easel: Easel, asked: Detection, job: JobContext) -> Detected:
    """In the worker. Raises: InvalidRequest, BadModelFile."""
    from . import maps

    pictures, poses = [], []
    for number, unit in enumerate(asked.units):
        if job.interrupted:
            break
        job.text(f"Preprocessing picture {number + 1} of {len(asked.units)}")
        drawn = maps.detect(unit, maps.read_input(unit, number, None), maps.Request(0, 0), easel.models)
        pictures.append(encode_image(maps.picture_of(drawn.map), "png", None))
        if drawn.pose is not None:
            poses.append(json.dumps(drawn.pose))
    return Detected(tuple(pictures), tuple(poses))


KIND = JobKind("controlnet.detect", run, Detection, Detected, "ControlNet preprocessor", kept=False)
