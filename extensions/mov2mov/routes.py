"""/mov2mov: run, watch and cancel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Body
from pydantic import BaseModel, Field, ValidationError

from webui.extensions.api import Easel, GenerationRequest, InvalidRequest, NotFound, keep_given

from .kinds import KIND, Film, FilmMade
from .parameters import Mov2Mov

OWN = (
    "video",
    "name",
    "fps",
    "max_frames",
    "options",
    "soundtrack",
    "mask_video",
    "force_task_id",
    "override_settings",
)
NOT_HERE = ("hires", "refiner", "script")


class Queued(BaseModel):
    job_id: str = Field(description="To ask /mov2mov/jobs/{id} for")


class Watched(BaseModel):
    state: str = Field(description="queued, running, done, failed, cancelled or parked")
    frame: int = Field(description="Diffused frames that are finished")
    total: int = Field(description="Frames to be diffused, 0 until the video was looked at")
    progress: float = Field(description="0 to 1")
    text: str = Field(description="What is being done")
    video: str | None = Field(description="The film's path, once it is written")
    message: str = Field(description="How it went, or why it failed")


def router_for(easel: Easel) -> APIRouter:
    router = APIRouter(prefix="/mov2mov", tags=["mov2mov"])

    @router.post("/run")
    def run(body: dict[str, Any] = Body(...)) -> Queued:  # noqa: B008
        """The fields of /sdapi/v1/img2img without pictures; `video`, base64 or a path in the data folder; `fps`
        (the video's own when left out), `max_frames`, `soundtrack`, `mask_video`, and the further `options`."""
        return Queued(job_id=easel.jobs.submit(KIND, film_asked(easel, body), job_id=body.get("force_task_id")))

    @router.get("/jobs/{job_id}")
    def watch(job_id: str) -> Watched:
        progress = easel.jobs.progress(job_id)
        made: Any = None
        message = ""
        if progress.ended:
            try:
                made = easel.jobs.result(job_id)
            except NotFound:
                raise
            except Exception as error:  # noqa: BLE001  # the job's own failure is what was asked for
                message = str(error)
        if made is not None and not isinstance(made, FilmMade):
            raise NotFound(f'Job "{job_id}" is none of mov2mov\'s.')
        frame, total = (made.finished, made.total) if made else _counted(progress.text)
        return Watched(
            state=progress.state,
            frame=frame,
            total=total,
            progress=progress.fraction if not progress.ended else 1.0,
            text=progress.text,
            video=made.files[0] if made and made.files else None,
            message=made.message if made else message,
        )

    @router.delete("/jobs/{job_id}")
    def cancel(job_id: str) -> None:
        """Ends it after the step in hand; the frames so far become a film."""
        easel.jobs.progress(job_id)  # raises NotFound
        easel.jobs.interrupt(job_id)

    return router


def _counted(text: str) -> tuple[int, int]:
    """Of "Frame 3/20": two are finished."""
    words = text.removeprefix("Frame ").partition("/")
    return (int(words[0]) - 1, int(words[2])) if words[0].isdecimal() and words[2].isdecimal() else (0, 0)


def film_asked(easel: Easel, body: dict[str, Any]) -> Film:
    """Raises: InvalidRequest naming the field."""
    root = easel.paths.data / easel.settings.snapshot()["mov2mov_outpath_samples"] / "sources"
    if not isinstance(body.get("video"), str) or not body["video"]:
        raise InvalidRequest("video is missing; send it as base64, or the path of a file in the data folder.")
    try:
        options = Mov2Mov(**(body.get("options") or {}))
    except (ValidationError, TypeError) as error:
        raise InvalidRequest(f"options can't be used: {error}") from error
    request = request_of(body)
    changes: dict[str, Any] = {}
    if body.get("fps") is not None:
        changes |= {"keep_source_fps": False, "movie_fps": body["fps"]}
    if body.get("max_frames") is not None:
        changes["max_frames"] = body["max_frames"]
    if changes:
        options = options.replace(frames=options.frames.replace(**changes))
    if "initial_noise_multiplier" in body:
        options = options.replace(noise_multiplier=body["initial_noise_multiplier"])
    if options.output.soundtrack:
        raise InvalidRequest("Send the soundtrack in the field soundtrack, not among the options.")
    if body.get("soundtrack"):
        sound = keep_given(str(body["soundtrack"]), root, easel.paths.data, "soundtrack")
        options = options.replace(output=options.output.replace(sound="File", soundtrack=str(sound)))
    if options.masks.video:
        raise InvalidRequest("Send the mask video in the field mask_video, not among the options.")
    if body.get("mask_video"):
        masks = keep_given(str(body["mask_video"]), root, easel.paths.data, "mask_video")
        options = options.replace(masks=options.masks.replace(video=str(masks)))
    video = keep_given(body["video"], root, easel.paths.data, "video")
    return Film(request, options, str(video), str(body.get("name") or Path(video).name))


def request_of(body: dict[str, Any]) -> GenerationRequest:
    """img2img's fields by their names in the API. Raises: InvalidRequest for one that isn't known here."""
    paths = {spec.api: spec.path for spec in GenerationRequest.specs() if spec.api and spec.path[0] not in NOT_HERE}
    values: dict[str, Any] = {"image": {}, "overrides": body.get("override_settings") or {}}
    for key, value in body.items():
        if key in OWN or key == "initial_noise_multiplier":
            continue
        if key not in paths:
            raise InvalidRequest(f'mov2mov knows no field "{key}"; leave it out.')
        place = values
        for part in paths[key][:-1]:
            place = place.setdefault(part, {})
        place[paths[key][-1]] = value
    return GenerationRequest.checked(**values)
