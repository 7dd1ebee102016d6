"""The job that takes many pictures, one after the other, through img2img."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from webui.core.batch import BatchPicture, PictureBatch
from webui.core.errors import InvalidRequest, NoSpace, NotSaved, WebuiError
from webui.core.infotext import parse
from webui.core.joining import joined_info
from webui.core.pictures import read_infotext, size_of
from webui.core.request import GenerationRequest, GenerationResult
from webui.core.results import ResultFile
from webui.jobs.context import JobContext
from webui.pipeline.engine import Engine
from webui.planning.batch import BatchPlan


def run(engine: Engine, job: BatchPlan, progress: JobContext) -> GenerationResult:
    """Every picture's results, the first `batch.shown` of them handed back. A picture that can't be read is left out.

    Raises: WebuiError when nothing at all could be made.
    """
    started = time.monotonic()
    batch = job.batch
    limit = len(batch.pictures) * 10_000 if batch.shown < 0 else batch.shown
    request = batch.request
    images: list[ResultFile] = []
    files: list[ResultFile] = []
    comments = list(batch.comments)
    info: dict[str, Any] = {}
    failure: WebuiError | None = None
    unsaved: NotSaved | None = None
    for turn, picture in enumerate(batch.pictures):
        if progress.interrupted or progress.stopping or isinstance(unsaved, NoSpace):
            break
        part = progress.child(1 / len(batch.pictures))
        try:
            own = request_for(picture, turn, request, batch, engine)
            result = engine.generate(own, part, job.settings)
        except InvalidRequest as error:
            failure = failure or error
            comments.append(f"{picture.path.name} was left out: {error}")
            continue
        except OSError as error:
            failure = failure or InvalidRequest(f"{picture.path} can't be read: {error.strerror}.")
            comments.append(f"{picture.path.name} was left out: {error.strerror}.")
            continue
        unsaved = result.unsaved or unsaved
        comments += [comment for comment in result.comments if comment not in comments]
        info = joined_info(info, result.info, max(limit - len(images), 0))
        files += result.files
        images += result.images[: max(limit - len(images), 0)]
    if not info and failure is not None:
        raise failure
    seconds = time.monotonic() - started
    return GenerationResult(tuple(images), info, tuple(comments), seconds, unsaved, tuple(files))


def request_for(
    picture: BatchPicture, turn: int, request: GenerationRequest, batch: PictureBatch, engine: Engine
) -> GenerationRequest:
    """The request for one picture of the batch, which comes after `turn` others. Raises: InvalidRequest, OSError."""
    data = picture.file.read_bytes()
    image = request.image
    assert image is not None
    inpaint = image.inpaint
    if inpaint is not None:
        assert picture.mask is not None
        inpaint = inpaint.replace(mask=picture.mask.read_bytes())
    changes: dict[str, Any] = {"image": image.replace(images=(data,), inpaint=inpaint, turn=turn), "save_grid": False}
    if batch.scale is not None:
        width, height = size_of(data)
        changes["width"], changes["height"] = (max(int(side * batch.scale) // 8 * 8, 8) for side in (width, height))
    overrides = dict(request.overrides)
    if picture.description is not None:
        changes |= _described(picture.description, request, batch.taken, overrides, engine)
    if batch.output is not None:
        overrides |= _named_as(picture.path, request, batch.output)
    return request.replace(**changes, overrides=overrides)


def _named_as(path: Path, request: GenerationRequest, output: Path) -> dict[str, Any]:
    """Settings that save results under the picture's name, numbered where it has several."""
    several = request.batch_count * request.batch_size > 1
    return {
        "outdir_samples": str(output),
        "samples_filename_pattern": f"{path.stem}-[generation_number]" if several else path.stem,
        "save_images_add_number": False,
        "save_images_replace_action": "Add number suffix",
        "save_to_dirs": False,
    }


def _described(
    path: Path,
    request: GenerationRequest,
    taken: frozenset[str],
    overrides: dict[str, Any],
    engine: Engine,
) -> dict[str, Any]:
    """Changes that the infotext of a picture asks for, of the keys taken; what doesn't fit is passed over."""
    try:
        text = read_infotext(path.read_bytes())[0]
    except (OSError, InvalidRequest):
        return {}
    found = {key: value for key, value in parse(text or "").items() if key in taken}
    changes: dict[str, Any] = {}
    if found.get("Prompt"):
        changes["prompt"] = f"{request.prompt} {found['Prompt']}"
    if found.get("Negative prompt"):
        changes["negative_prompt"] = f"{request.negative_prompt} {found['Negative prompt']}"
    readers: Mapping[str, tuple[str, Callable[[str], Any]]] = {
        "Seed": ("seed", int),
        "Steps": ("steps", int),
        "CFG scale": ("cfg_scale", float),
        "Sampler": ("sampler", lambda name: engine.choices.find_sampler(name)[0].name),
    }
    for key, (name, read) in readers.items():
        if key in found:
            value = _read(read, str(found[key]))
            changes |= {} if value is None else {name: value}
    if "Model hash" in found:
        checkpoint = _read(engine.checkpoints.find, str(found["Model hash"]))
        if checkpoint is not None:
            overrides["sd_model_checkpoint"] = checkpoint.title
    return changes


def _read(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except (ValueError, WebuiError):
        return None
