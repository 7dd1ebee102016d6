"""Many pictures through img2img in one job, each with the same request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from webui.core.request import GenerationRequest
from webui.core.stored import KeptFile

TAKEN_FROM_PICTURES = ("Prompt", "Negative prompt", "Seed", "CFG scale", "Sampler", "Steps", "Model hash")
"""Keys of an infotext that a picture of a batch can bring along."""


@dataclass(frozen=True)
class BatchPicture:
    """One picture to work on. mask: what to paint of it. described_by: whose infotext counts for it, if any.

    upload: the file itself where `path` is a visitor's temporary one, which may be gone when the picture's turn comes.
    """

    path: Path
    mask: Path | None = None
    described_by: Path | None = None
    upload: KeptFile | None = None

    @property
    def file(self) -> Path:
        """What to read."""
        return self.upload.path if self.upload else self.path

    @property
    def description(self) -> Path | None:
        """What to read the infotext from, if any counts."""
        return self.file if self.described_by == self.path else self.described_by


@dataclass(frozen=True)
class PictureBatch:
    """A job of the handler "webui.pipeline.batch:run".

    request: for every picture; its `image` lacks the pictures, its `image.inpaint` the mask.
    output: folder for the results, named as the originals; None saves them as any others.
    scale: the results' size by the originals'; None takes the request's.
    taken: keys of TAKEN_FROM_PICTURES that replace the request's values; prompts are appended.
    shown: how many results are handed back at most, -1 for all.
    comments: sentences about what was left out before it began.
    """

    request: GenerationRequest
    pictures: tuple[BatchPicture, ...]
    output: Path | None = None
    scale: float | None = None
    taken: frozenset[str] = frozenset()
    shown: int = 32
    comments: tuple[str, ...] = ()
