"""The parameters of the program's own operations on finished pictures, in Extras and on the generation tabs."""

from __future__ import annotations

from webui.core.params import Params, param
from webui.core.request import MAX_SIDE

SCALE_BY, SCALE_TO = 0, 1


class Upscaling(Params, title="Upscale"):
    """The operation Upscale.

    resize_mode: SCALE_BY `scale`, but not beyond `max_side` if that isn't 0, or SCALE_TO width x height, of which the
    smaller side is met, or with `crop` both.
    """

    resize_mode: int = param(
        SCALE_BY, label="Resize mode", api="resize_mode", ge=0, le=1, help="0 scales by a factor, 1 to a size."
    )
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

    def target(self, width: int, height: int) -> tuple[int, int]:
        """The size that is asked for a picture of width x height, whether or not an upscaler is chosen."""
        if self.resize_mode == SCALE_TO:
            return self.width, self.height
        wide, high = int(width * self.scale), int(height * self.scale)
        if 0 < self.max_side < max(wide, high):
            shrink = self.max_side / max(wide, high)
            return max(1, int(wide * shrink)), max(1, int(high * shrink))
        return max(1, wide), max(1, high)


class GFPGANRestoring(Params, title="GFPGAN"):
    """The operation GFPGAN. gfpgan_visibility: 0 leaves the picture as it is."""

    gfpgan_visibility: float = param(0.0, label="Visibility", api="gfpgan_visibility", ge=0, le=1, slider=(0, 1, 0.001))


class CodeFormerRestoring(Params, title="CodeFormer"):
    """The operation CodeFormer. codeformer_visibility: 0 leaves the picture as it is."""

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
