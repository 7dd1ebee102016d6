"""What a job hands back: pictures while they are finished, files when they are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

Role: TypeAlias = Literal["picture", "grid", "mask", "control map", "video", "sound", "text"]
GENERATED, COMPOSITE = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
"""IPTC's words for how a picture came about: made by a network, or put together of such parts and others."""
TRANSIENT = "transient"
"""Metadata of a dataclass's field that is not kept with the job: it comes back at its default."""
SHOWN_AS_PICTURE: tuple[Role, ...] = ("picture", "grid", "mask", "control map")


@dataclass(frozen=True)
class Picture:
    """A picture of a batch that is being finished.

    index: number of the job's picture whose seed and prompt it has. role: only a "picture" is saved and in the grid;
    others are handed back beside it.
    mask: L, where the original is hidden; painted: what was painted there, in its place. Both None without a mask.
    uncorrected: the picture before colour correction, when there was any.
    complete: no interruption or skip cut it short.
    fields: entries of this picture's own text, beside those of the whole job.
    source_type: how it came about, in the file's metadata, see `webui.core.pictures.DIGITAL_SOURCE_TYPE`.
    """

    image: Image
    index: int = 0
    role: Role = "picture"
    mask: Image | None = None
    painted: Image | None = None
    uncorrected: Image | None = None
    complete: bool = True
    fields: Mapping[str, object] = field(default_factory=dict)
    source_type: str = GENERATED


@dataclass(frozen=True)
class ResultFile:
    """A finished file. data: its content, a picture's infotext included. path: where it was saved, if it was.

    width, height: of what is seen, 0 for sound and text.
    """

    data: bytes = field(repr=False, metadata={"in_file": "path"})
    mime: str
    infotext: str = ""
    width: int = 0
    height: int = 0
    path: str | None = None
    role: Role = "picture"

    @property
    def is_grid(self) -> bool:
        return self.role == "grid"

    @property
    def name(self) -> str:
        """Its file's name, or one made of its role and type."""
        if self.path:
            return Path(self.path).name
        return f"{self.role.replace(' ', '-')}.{self.mime.rpartition('/')[2]}"
