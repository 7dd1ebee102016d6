"""The kind of job that page and API submit; the work itself is imported in the worker."""

from __future__ import annotations

from dataclasses import dataclass

from webui.extensions.api import GenerationRequest, JobKind

from .parameters import Mov2Mov


@dataclass(frozen=True)
class Film:
    """What is asked for. request: img2img without its pictures. video: a file or folder that stays where it is.

    name: of the video as the user knows it. stitch: diffuse nothing, put together what an equal run has left.
    """

    request: GenerationRequest
    options: Mov2Mov
    video: str
    name: str = ""
    stitch: bool = False


@dataclass(frozen=True)
class FilmMade:
    """files: the film, nothing for a sequence of PNGs. folder: of the diffused frames, `finished` of `total`."""

    files: tuple[str, ...]
    message: str
    comments: tuple[str, ...]
    folder: str
    finished: int
    total: int


KIND = JobKind("mov2mov", f"{__package__}.job:run", Film, FilmMade, "mov2mov", resumable=True)
