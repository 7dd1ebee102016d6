"""Batches of img2img: which pictures, which masks, and where the results go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from webui.core.batch import BatchPicture, PictureBatch
from webui.core.errors import InvalidRequest
from webui.core.request import GenerationRequest
from webui.core.stored import KeptFile
from webui.planning.batch import make_batch_plan
from webui.services.folders import folder_of
from webui.services.kinds import BATCH
from webui.services.services import Services

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"})
MOST = 100_000
"""Files that are looked at below one folder: beyond it lies a whole disk."""


@dataclass(frozen=True)
class BatchFolders:
    """What the page's "From directory" names, as typed; "" for none."""

    input: str = ""
    output: str = ""
    masks: str = ""
    infotexts: str = ""


def submit_batch(services: Services, batch: PictureBatch, job_id: str | None = None) -> str:
    """Queue the batch; returns the job's id.

    Raises: InvalidRequest, NotFound for what would be wrong with every picture and for a taken id, TooManyJobs.
    """
    plan = make_batch_plan(batch, services.planner)
    return services.jobs.submit(BATCH, plan, job_id=job_id)


def batch_of_files(
    services: Services, request: GenerationRequest, files: Sequence[Path], taken: Iterable[str], scale: float | None
) -> PictureBatch:
    """A batch of uploaded files. Raises: InvalidRequest when there are none."""
    if not files:
        raise InvalidRequest("There are no pictures to work on; upload some first.")
    keys = frozenset(taken)
    pictures = tuple(BatchPicture(file, None, file if keys else None, KeptFile(file)) for file in files)
    return PictureBatch(_unmasked(request), pictures, None, scale, keys, _shown(services))


def batch_of_folder(
    services: Services, request: GenerationRequest, folders: BatchFolders, taken: Iterable[str], scale: float | None
) -> PictureBatch:
    """A batch of all pictures below a folder of the server.

    Raises: InvalidRequest for a folder that is missing or holds no pictures, Refused for one that may not be used.
    """
    if not folders.input.strip():
        raise InvalidRequest("Name the input directory that holds the pictures.")
    found = pictures_below(folder_of(services, folders.input))
    keys = frozenset(taken)
    described = pictures_by_stem(folder_of(services, folders.infotexts)) if keys and folders.infotexts.strip() else None
    pictures = [BatchPicture(path, described_by=_described(path, described) if keys else None) for path in found]
    comments: list[str] = []
    if folders.masks.strip():
        pictures = list(_masked(pictures, pictures_below(folder_of(services, folders.masks)), comments))
        if not pictures:
            raise InvalidRequest(f"{folders.masks} has no mask named like a picture of {folders.input}.")
    else:
        request = _unmasked(request)
    output = folder_of(services, folders.output) if folders.output.strip() else None
    return PictureBatch(request, tuple(pictures), output, scale, keys, _shown(services), tuple(comments))


def pictures_below(folder: Path) -> list[Path]:
    """Every picture in a folder and those below it, by name. Raises: InvalidRequest when there are none."""
    if not folder.is_dir():
        raise InvalidRequest(f"There is no folder {folder} on the server.")
    found, seen = [], 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        seen += len(names)
        if seen > MOST:
            raise InvalidRequest(f"{folder} holds more than {MOST} files; name a smaller folder.")
        found += [Path(parent, name) for name in sorted(names) if Path(name).suffix.lower() in PICTURES]
    if not found:
        raise InvalidRequest(f"{folder} holds no pictures ({', '.join(sorted(PICTURES))}).")
    return found


def pictures_by_stem(folder: Path) -> Mapping[str, Path]:
    """Raises: InvalidRequest, as `pictures_below`."""
    return {path.stem: path for path in pictures_below(folder)}


def _masked(pictures: Sequence[BatchPicture], masks: Sequence[Path], comments: list[str]) -> Iterable[BatchPicture]:
    """The pictures with their masks: one mask is for all, of several each has its picture's name."""
    by_stem = {path.stem: path for path in masks}
    for picture in pictures:
        mask = masks[0] if len(masks) == 1 else by_stem.get(picture.path.stem)
        if mask is None:
            comments.append(f"{picture.path.name} has no mask and was left out.")
        else:
            yield BatchPicture(picture.path, mask, picture.described_by)


def _described(path: Path, others: Mapping[str, Path] | None) -> Path | None:
    return path if others is None else others.get(path.stem)


def _unmasked(request: GenerationRequest) -> GenerationRequest:
    assert request.image is not None
    return request.replace(image=request.image.replace(inpaint=None))


def _shown(services: Services) -> int:
    return int(services.settings.snapshot()["img2img_batch_show_results_limit"])
