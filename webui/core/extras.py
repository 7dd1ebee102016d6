"""What a user asks for on finished pictures: make them larger, one or many at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from webui.core.params import Params, param
from webui.core.request import MAX_SIDE

SCALE_BY, SCALE_TO = 0, 1
MOST_PICTURES = 10_000


@dataclass(frozen=True)
class PictureSource:
    """A picture to work on: a file's content, or where to read it when its turn comes. name: of the file."""

    name: str
    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None


class ExtrasRequest(Params):
    """Operations on pictures; parameter names and defaults are those of the Extras tab.

    resize_mode: SCALE_BY `scale`, but not beyond `max_side` if that isn't 0, or SCALE_TO width x height, of which the
    smaller side is met, or with `crop` both. keep_names: the results are called as the pictures were.
    output: a folder in place of the settings' one. show: whether the results are handed back.
    extensions: values of further steps, by the name of their group.
    """

    sources: tuple[PictureSource, ...] = ()
    resize_mode: int = param(SCALE_BY, label="Resize mode", api="resize_mode", ge=0, le=1)
    scale: float = param(
        4.0, label="Resize", api="upscaling_resize", api_default=2.0, ge=0.01, le=64, slider=(1, 8, 0.05)
    )
    max_side: int = param(0, label="Max side length", ge=0, le=MAX_SIDE)
    width: int = param(512, label="Width", api="upscaling_resize_w", ge=1, le=MAX_SIDE, slider=(64, 8192, 8))
    height: int = param(512, label="Height", api="upscaling_resize_h", ge=1, le=MAX_SIDE, slider=(64, 8192, 8))
    crop: bool = param(True, label="Crop to fit", api="upscaling_crop")
    upscaler_1: str = param("None", label="Upscaler 1", api="upscaler_1", choices="upscalers")
    upscaler_2: str = param("None", label="Upscaler 2", api="upscaler_2", choices="upscalers")
    upscaler_2_visibility: float = param(
        0.0, label="Upscaler 2 visibility", api="extras_upscaler_2_visibility", ge=0, le=1, slider=(0, 1, 0.001)
    )
    gfpgan_visibility: float = param(0.0, label="Visibility", api="gfpgan_visibility", ge=0, le=1, slider=(0, 1, 0.001))
    codeformer_visibility: float = param(
        0.0, label="Visibility", api="codeformer_visibility", ge=0, le=1, slider=(0, 1, 0.001)
    )
    codeformer_weight: float = param(
        0.0,
        label="Weight (0 = maximum effect, 1 = minimum effect)",
        api="codeformer_weight",
        ge=0,
        le=1,
        slider=(0, 1, 0.001),
    )
    upscale_first: bool = param(False, label="Upscale before restoring faces", api="upscale_first")
    show: bool = param(True, label="Show result images", api="show_extras_results")
    save: bool = True
    keep_names: bool = False
    output: Path | None = None
    extensions: Mapping[str, Params] = Field(default_factory=dict)

    def extension(self, group: type[Params]) -> Any:
        """The values of a step's parameter group, its defaults when the request names none."""
        return self.extensions.get(group.__name__) or group()
