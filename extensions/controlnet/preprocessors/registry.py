"""Every preprocessor: its names, its sliders, the control types it serves, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import drawing

Picture = Any


@dataclass(frozen=True)
class Slider:
    name: str
    value: float
    minimum: float
    maximum: float
    step: float

    def admitted(self, asked: float) -> float:
        """The value asked for, or the default when it lies outside of the range, as -1 does."""
        return asked if self.minimum <= asked <= self.maximum else self.value


RESOLUTION = Slider("Resolution", 512, 64, 2048, 8)
FIDELITY = Slider("Style Fidelity (only for Balanced mode)", 0.5, 0.0, 1.0, 0.01)
NOISE = Slider("Noise Augmentation", 0.0, 0.0, 1.0, 0.01)
GAMMA = Slider("Gamma Correction", 1.0, 0.1, 2.0, 0.001)
VARIATION = Slider("Variation", 8.0, 3.0, 32.0, 1.0)
SAFE_STEPS = Slider("Safe Steps", 2, 0, 10, 1)
NEAR, FAR = Slider("Remove Near %", 0, 0, 100, 0.1), Slider("Remove Background %", 0, 0, 100, 0.1)

CONTROL_TYPES = (
    "Canny", "Depth", "IP-Adapter", "Inpaint", "Instant-ID", "InstructP2P", "Lineart", "MLSD", "NormalMap", "OpenPose",
    "Recolor", "Reference", "Revision", "Scribble", "Segmentation", "Shuffle", "SoftEdge", "SparseCtrl", "T2I-Adapter",
    "Tile",
)  # fmt: skip

Draw = Callable[[Picture, float, float], Picture]
"""(picture (H, W, 3) uint8, threshold A, threshold B) -> map (H, W, 3) uint8."""


@dataclass(frozen=True)
class Preprocessor:
    """id: its name in the API. label: its name on the page. types: the control types it is offered for.

    draw: makes the map; None for those that only hand the picture on. sized: `draw` sees the picture with a short side
    of the chosen resolution. resolution, a, b: its sliders. default_of: the types for which it is chosen at first.
    model_free: works without a control model. masked: reads the unit's mask beside the picture.
    needs: the files with weights that it can't do without. fixed_resolution: of those without a slider for it.
    """

    id: str
    types: tuple[str, ...]
    label: str
    draw: Draw | None = None
    sized: bool = True
    resolution: Slider | None = RESOLUTION
    a: Slider | None = None
    b: Slider | None = None
    is_default: bool = False
    model_free: bool = False
    masked: bool = False
    needs: str = ""
    unfinished: bool = False
    fixed_resolution: int = 0

    @property
    def sliders(self) -> tuple[Slider, ...]:
        return tuple(slider for slider in (self.resolution, self.a, self.b) if slider is not None)


def _of(
    id: str, types: str = "", label: str = "", draw: Draw | None = None, *, default: bool = False, **more: Any
) -> Preprocessor:
    return Preprocessor(id, tuple(types.split()), label or id, draw, is_default=default, **more)


PREPROCESSORS = (
    _of("none", " ".join(CONTROL_TYPES), sized=False),
    _of(
        "tile_resample", "Tile", "", lambda picture, rate, _: drawing.down_sampled(picture, rate), default=True,
        sized=False, a=Slider("Down Sampling Rate", 1.0, 1.0, 8.0, 0.01),
    ),
    _of("reference_only", "Reference", default=True, sized=False, model_free=True, a=FIDELITY),
    _of(
        "recolor_luminance", "Recolor", "", lambda picture, gamma, _: drawing.luminance(picture, gamma), default=True,
        sized=False, a=GAMMA,
    ),
    _of(
        "lineart_standard", "Lineart", "lineart_standard (from white bg & black line)",
        lambda picture, _a, _b: drawing.standard_lines(picture), default=True,
    ),
    _of("inpaint_only", "Inpaint", default=True, sized=False, resolution=None, masked=True),
    _of(
        "canny", "Canny", "", drawing.canny, default=True,
        a=Slider("Low Threshold", 100, 1, 255, 1), b=Slider("High Threshold", 200, 1, 255, 1),
    ),
    _of(
        "invert", "Canny Lineart MLSD Scribble", "invert (from white bg & black line)",
        lambda picture, _a, _b: drawing.invert(picture), sized=False, resolution=None,
    ),
    _of(
        "tile_colorfix+sharp", "Tile", sized=False, a=VARIATION, b=Slider("Sharpness", 1.0, 0.0, 2.0, 0.01),
    ),
    _of("tile_colorfix", "Tile", sized=False, a=VARIATION),
    _of(
        "threshold", "", "", lambda picture, level, _: drawing.binary(picture, level),
        a=Slider("Binarization Threshold", 127, 0, 255, 0.01),
    ),
    _of("color", "T2I-Adapter", "t2ia_color_grid", sized=False),
    _of("shuffle", "Shuffle", default=True, sized=False, resolution=None, fixed_resolution=512),
    _of(
        "scribble_xdog", "Scribble SparseCtrl", "", lambda picture, threshold, _: drawing.xdog(picture, threshold),
        a=Slider("XDoG Threshold", 32, 1, 64, 0.01),
    ),
    _of("reference_adain+attn", "Reference", sized=False, model_free=True, a=FIDELITY),
    _of("reference_adain", "Reference", sized=False, model_free=True, a=FIDELITY),
    _of(
        "recolor_intensity", "Recolor", "", lambda picture, gamma, _: drawing.intensity(picture, gamma),
        sized=False, a=GAMMA,
    ),
    _of("inpaint", "Inpaint", "inpaint_global_harmonious", sized=False, resolution=None, masked=True),
    _of(
        "blur_gaussian", "Tile", "", lambda picture, sigma, _: drawing.blurred(picture, sigma),
        a=Slider("Sigma", 9.0, 0.01, 64.0, 0.01),
    ),
)  # fmt: skip
