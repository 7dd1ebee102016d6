"""What any job hands back, as files and sentences to be shown."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webui.core.request import GenerationResult
from webui.services.services import Services


@dataclass(frozen=True)
class ShownFile:
    """data: the content; None where it lies at `path`, from which it may be served."""

    name: str
    mime: str
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    infotext: str = ""

    @property
    def kind(self) -> str:
        """ "image", "video", "audio" or another first half of its type."""
        return self.mime.partition("/")[0]


@dataclass(frozen=True)
class JobResult:
    """message: what the job says of itself. comments: sentences besides."""

    files: tuple[ShownFile, ...] = ()
    message: str = ""
    comments: tuple[str, ...] = ()


def job_result(services: Services, job_id: str) -> JobResult:
    """The result of a generation; or of another job, which returns an object (or has attributes) `message`, `comments`
    and `files`, paths in the outputs folder.

    Raises: the job's own WebuiError, NotFound for one forgotten.
    """
    result: Any = services.jobs.result(job_id)
    if isinstance(result, GenerationResult):
        made = [_picture(services, image, number) for number, image in enumerate(result.images)]
        return JobResult(tuple(made), "", tuple(result.comments))
    told = result if isinstance(result, Mapping) else {name: getattr(result, name, None) for name in _TOLD}
    paths = [Path(path) for path in told.get("files") or ()]
    return JobResult(
        tuple(_file(path) for path in paths if _may_be_shown(services, path)),
        str(told.get("message") or ""),
        tuple(told.get("comments") or ()),
    )


_TOLD = ("files", "message", "comments")


def _may_be_shown(services: Services, path: Path) -> bool:
    return path.resolve().is_relative_to(services.paths.outputs.resolve()) and path.is_file()


def _file(path: Path) -> ShownFile:
    return ShownFile(path.name, mimetypes.guess_type(path.name)[0] or "application/octet-stream", path)


def _picture(services: Services, image: Any, number: int) -> ShownFile:
    saved = Path(image.path) if image.path else None
    if saved is not None and _may_be_shown(services, saved):
        return ShownFile(saved.name, image.mime, saved, infotext=image.infotext)
    name = saved.name if saved else f"{number:05}.{image.mime.rpartition('/')[2]}"
    return ShownFile(name, image.mime, None, image.data, image.infotext)
