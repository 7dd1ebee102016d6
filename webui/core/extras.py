"""What a user asks for on finished pictures and videos: operations in order, on one or many at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from webui.core.errors import InvalidRequest
from webui.core.operations import CodeFormerRestoring, GFPGANRestoring, Upscaling
from webui.core.params import Params, param
from webui.core.stored import KeptFile

MOST_PICTURES = 10_000
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
"""What is worked on frame by frame; a GIF or WebP is a picture."""
FLOW, RIFE = "Optical flow", "RIFE v4.6"
FRAME_ENGINES = (FLOW, RIFE)
"""What makes frames between those of a video: the movement that OpenCV finds, or a network."""


@dataclass(frozen=True)
class PictureSource:
    """A picture or video to work on: its content, or where to read it when its turn comes.

    name: of the file. upload: a file that may go before the job runs, kept with the job.
    """

    name: str
    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None
    upload: KeptFile | None = None

    @property
    def file(self) -> Path | None:
        """Where it lies, None for one that is only in memory."""
        return self.upload.path if self.upload is not None else self.path

    def read(self) -> bytes:
        """The content. Raises: InvalidRequest when the file is gone or can't be read."""
        if self.data is not None:
            return self.data
        assert self.file is not None, "a source has its content or its place"
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise InvalidRequest(f"The file can't be read: {error.strerror}.") from error

    @property
    def is_video(self) -> bool:
        return self.file is not None and Path(self.name).suffix.lower() in VIDEO_SUFFIXES


class ExtrasRequest(CodeFormerRestoring, GFPGANRestoring, Upscaling):
    """Operations on pictures; parameter names and defaults are those of the Extras tab.

    keep_names: the results are called as the pictures were. output: a folder in place of the settings' one.
    show: whether the results are handed back. video_format: of what is made of videos. frames: how many a video gets
    for each of its own. slower: how many times longer it lasts; without its sound, if it lasts longer.
    extensions: values of further steps, by the name of their group.
    """

    sources: tuple[PictureSource, ...] = ()
    upscale_first: bool = param(False, label="Upscale before restoring faces", api="upscale_first")
    show: bool = param(True, label="Show result images", api="show_extras_results")
    video_format: str = param("mp4", label="Format of videos", choices=("mp4", "webm", "gif", "webp"))
    frames: int = param(1, label="Frames for each one", ge=1, le=10, step=1)
    frame_engine: str = param(FLOW, label="Frames between by", choices=FRAME_ENGINES)
    slower: int = param(1, label="Slow motion", ge=1, le=10, step=1)
    save: bool = True
    keep_names: bool = False
    output: Path | None = None
    extensions: Mapping[str, Params] = Field(default_factory=dict)

    def extension(self, group: type[Params]) -> Any:
        """The values of a step's parameter group, its defaults when the request names none."""
        return self.extensions.get(group.__name__) or group()

    def values_of(self, group: type[Params] | None) -> Any:
        """What a step with that group is to be called with: the request itself where the group is a part of it."""
        return self if group is None or isinstance(self, group) else self.extension(group)
