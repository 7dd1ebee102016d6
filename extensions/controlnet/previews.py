"""Previews: a map made in a job of its own, to be looked at before anything is generated."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from webui.extensions.api import Easel, InvalidRequest, JobContext, JobKind, encode_image

from .units import Unit

LONGEST_POSES = 4 << 20
"""Characters of a pose in JSON."""


@dataclass(frozen=True)
class Preview:
    """What is asked for. unit: with its picture, and the files of its network found; number: which it is on its form.

    width, height: of what is to be generated, for Pixel Perfect. poses: OpenPose's JSON, to be drawn in place of the
    picture; "" for none.
    """

    unit: Unit
    number: int
    width: int
    height: int
    poses: str = ""


@dataclass(frozen=True)
class Previewed:
    """picture: the map, a PNG; b"" when the job was stopped. poses: OpenPose's JSON, if the map shows any."""

    picture: bytes
    number: int
    poses: str = ""


def run(easel: Easel, asked: Preview, job: JobContext) -> Previewed:
    """In the worker. Raises: InvalidRequest."""
    from . import maps
    from .preprocessors.poses import draw_poses

    job.text("Preprocessing")
    if asked.poses:
        pose: Any = read_poses(asked.poses)
        drawn = maps.Drawn(draw_poses(pose), pose)
    else:
        source = maps.read_input(asked.unit, asked.number, None)
        drawn = maps.detect(asked.unit, source, maps.Request(asked.width, asked.height), easel.models)
    if job.interrupted:
        return Previewed(b"", asked.number)
    poses = json.dumps(drawn.pose) if drawn.pose is not None else ""
    return Previewed(encode_image(maps.picture_of(drawn.map), "png", None), asked.number, poses)


KIND = JobKind("controlnet.preview", run, Preview, Previewed, "ControlNet preview")


def read_poses(text: str) -> dict[str, object]:
    """Raises: InvalidRequest for what is no JSON object."""
    if len(text) > LONGEST_POSES:
        raise InvalidRequest(f"The pose is longer than {LONGEST_POSES >> 20} MiB of JSON.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The pose is no JSON: {error}.") from error
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict):
        raise InvalidRequest("A pose is a JSON object with people, canvas_width and canvas_height.")
    return found
