"""Every preprocessor: its names, its sliders, the control types it serves, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from webui.extensions.api import InvalidRequest

from . import drawing, weights
from .weights import Weights

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
    needs: the files with weights that it can't do without; network: what makes a function of them, as
    "module:function" of the package `detectors`, called with paths and device and giving (picture, a, b) -> what is
    found. gives: whether that is a map or a pose. finish: what is drawn of the map at last.
    lacks: what this version has nothing to run it by. fixed_resolution: of those without a slider for it.
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
    needs: tuple[Weights, ...] = ()
    network: str = ""
    gives: Literal["map", "pose"] = "map"
    finish: Callable[[Picture], Picture] | None = None
    lacks: str = ""
    fixed_resolution: int = 0

    def require_runnable(self) -> None:
        """Raises: InvalidRequest for one that this version only lists."""
        if self.lacks:
            raise InvalidRequest(
                f'The preprocessor "{self.label}" needs {self.lacks}, which this version can\'t run yet; choose '
                "another, or load a finished map with the preprocessor none."
            )

    @property
    def sliders(self) -> tuple[Slider, ...]:
        return tuple(slider for slider in (self.resolution, self.a, self.b) if slider is not None)


def _of(
    id: str, types: str = "", label: str = "", draw: Draw | None = None, *, default: bool = False, **more: Any
) -> Preprocessor:
    return Preprocessor(id, tuple(types.split()), label or id, draw, is_default=default, **more)


_ALL = (
    _of("none", " ".join(CONTROL_TYPES), sized=False),
    _of(
        "tile_resample",
        "Tile",
        "",
        lambda picture, rate, _: drawing.down_sampled(picture, rate),
        default=True,
        sized=False,
        a=Slider("Down Sampling Rate", 1.0, 1.0, 8.0, 0.01),
    ),
    _of("reference_only", "Reference", default=True, sized=False, model_free=True, a=FIDELITY),
    _of(
        "recolor_luminance",
        "Recolor",
        "",
        lambda picture, gamma, _: drawing.luminance(picture, gamma),
        default=True,
        sized=False,
        a=GAMMA,
    ),
    _of(
        "lineart_standard",
        "Lineart",
        "lineart_standard (from white bg & black line)",
        lambda picture, _a, _b: drawing.standard_lines(picture),
        default=True,
    ),
    _of("inpaint_only", "Inpaint", default=True, sized=False, resolution=None, masked=True),
    _of(
        "canny",
        "Canny",
        "",
        drawing.canny,
        default=True,
        a=Slider("Low Threshold", 100, 1, 255, 1),
        b=Slider("High Threshold", 200, 1, 255, 1),
    ),
    _of(
        "invert",
        "Canny Lineart MLSD Scribble",
        "invert (from white bg & black line)",
        lambda picture, _a, _b: drawing.invert(picture),
        sized=False,
        resolution=None,
    ),
    _of(
        "tile_colorfix+sharp",
        "Tile",
        sized=False,
        a=VARIATION,
        b=Slider("Sharpness", 1.0, 0.0, 2.0, 0.01),
    ),
    _of("tile_colorfix", "Tile", sized=False, a=VARIATION),
    _of(
        "threshold",
        "",
        "",
        lambda picture, level, _: drawing.binary(picture, level),
        a=Slider("Binarization Threshold", 127, 0, 255, 0.01),
    ),
    _of("color", "T2I-Adapter", "t2ia_color_grid", sized=False),
    _of("shuffle", "Shuffle", default=True, sized=False, resolution=None, fixed_resolution=512),
    _of(
        "scribble_xdog",
        "Scribble SparseCtrl",
        "",
        lambda picture, threshold, _: drawing.xdog(picture, threshold),
        a=Slider("XDoG Threshold", 32, 1, 64, 0.01),
    ),
    _of("reference_adain+attn", "Reference", sized=False, model_free=True, a=FIDELITY),
    _of("reference_adain", "Reference", sized=False, model_free=True, a=FIDELITY),
    _of(
        "recolor_intensity",
        "Recolor",
        "",
        lambda picture, gamma, _: drawing.intensity(picture, gamma),
        sized=False,
        a=GAMMA,
    ),
    _of("inpaint", "Inpaint", "inpaint_global_harmonious", sized=False, resolution=None, masked=True),
    _of(
        "blur_gaussian",
        "Tile",
        "",
        lambda picture, sigma, _: drawing.blurred(picture, sigma),
        a=Slider("Sigma", 9.0, 0.01, 64.0, 0.01),
    ),
    _of("ip-adapter-auto", "IP-Adapter", "", default=True),
    _of(
        "pidinet", "SoftEdge", "softedge_pidinet", needs=(weights.PIDINET,), network="edges:load_pidinet", default=True
    ),
    _of(
        "oneformer_ade20k",
        "Segmentation",
        "seg_ofade20k",
        needs=(weights.ONEFORMER_ADE20K,),
        network="segmentation:load_ade20k",
        default=True,
    ),
    _of(
        "pidinet_scribble",
        "Scribble SparseCtrl",
        "scribble_pidinet",
        needs=(weights.PIDINET,),
        network="edges:load_pidinet",
        finish=drawing.scribbled,
        default=True,
    ),
    _of("revision_clipvision", "Revision", "", lacks="a CLIP image encoder", default=True, a=NOISE, model_free=True),
    _of(
        "openpose_full",
        "OpenPose",
        "",
        needs=(weights.BODY, weights.HAND, weights.FACE),
        network="openpose:load_full",
        gives="pose",
        default=True,
    ),
    _of("normal_bae", "NormalMap", "", needs=(weights.NORMAL_BAE,), network="normals:load_bae", default=True),
    _of(
        "mlsd",
        "MLSD",
        "",
        needs=(weights.MLSD,),
        network="edges:load_mlsd",
        default=True,
        a=Slider("MLSD Value Threshold", 0.1, 0.01, 2.0, 0.01),
        b=Slider("MLSD Distance Threshold", 0.1, 0.01, 20.0, 0.01),
    ),
    _of("ip-adapter_clip_sd15", "IP-Adapter", "ip-adapter_clip_h"),
    _of("depth", "Depth", "depth_midas", needs=(weights.MIDAS,), network="depth:load_midas", default=True),
    _of("clip_vision", "T2I-Adapter", "t2ia_style_clipvision", lacks="a CLIP image encoder", default=True),
    _of(
        "pidinet_sketch",
        "T2I-Adapter",
        "t2ia_sketch_pidi",
        needs=(weights.PIDINET,),
        network="edges:load_binary_pidinet",
    ),
    _of("softedge_teed", "SoftEdge", "", needs=(weights.TEED,), network="edges:load_teed", a=SAFE_STEPS),
    _of("pidinet_safe", "SoftEdge", "softedge_pidisafe", needs=(weights.PIDINET,), network="edges:load_safe_pidinet"),
    _of("hed_safe", "SoftEdge", "softedge_hedsafe", needs=(weights.HED,), network="edges:load_safe_hed"),
    _of("hed", "SoftEdge", "softedge_hed", needs=(weights.HED,), network="edges:load_hed"),
    _of(
        "softedge_anyline",
        "SoftEdge",
        "",
        needs=(weights.MTEED,),
        network="edges:load_anyline",
        resolution=Slider("Resolution", 1280, 64, 2048, 8),
        a=SAFE_STEPS,
    ),
    _of("segmentation", "Segmentation", "seg_ufade20k", needs=(weights.UPERNET,), network="segmentation:load_upernet"),
    _of(
        "oneformer_coco",
        "Segmentation",
        "seg_ofcoco",
        needs=(weights.ONEFORMER_COCO,),
        network="segmentation:load_coco",
    ),
    _of("anime_face_segment", "Segmentation", "seg_anime_face", lacks="UNet.pth"),
    _of(
        "scribble_hed",
        "Scribble SparseCtrl",
        "",
        needs=(weights.HED,),
        network="edges:load_hed",
        finish=drawing.scribbled,
    ),
    _of("revision_ignore_prompt", "Revision", "", lacks="a CLIP image encoder", a=NOISE, model_free=True),
    _of(
        "openpose_hand",
        "OpenPose",
        "",
        needs=(weights.BODY, weights.HAND),
        network="openpose:load_with_hands",
        gives="pose",
    ),
    _of(
        "openpose_faceonly",
        "OpenPose",
        "",
        needs=(weights.BODY, weights.FACE),
        network="openpose:load_faces",
        gives="pose",
    ),
    _of(
        "openpose_face",
        "OpenPose",
        "",
        needs=(weights.BODY, weights.FACE),
        network="openpose:load_with_faces",
        gives="pose",
    ),
    _of("openpose", "OpenPose", "", needs=(weights.BODY_ALONE,), network="openpose:load_body", gives="pose"),
    _of(
        "normal_map",
        "NormalMap",
        "normal_midas",
        needs=(weights.MIDAS,),
        network="depth:load_midas_normals",
        a=Slider("Normal Background Threshold", 0.4, 0.0, 1.0, 0.01),
    ),
    _of(
        "normal_dsine",
        "NormalMap",
        "",
        lacks="dsine.pt",
        a=Slider("Fov", 60, 0, 360, 0.1),
        b=Slider("Iterations", 5, 1, 20, 1),
    ),
    _of("mobile_sam", "Segmentation", "", needs=(weights.MOBILE_SAM,), network="segmentation:load_sam"),
    _of(
        "mediapipe_face",
        "",
        "",
        lacks="the face mesh of MediaPipe",
        a=Slider("Max Faces", 1, 1, 10, 1),
        b=Slider("Min Face Confidence", 0.5, 0.01, 1.0, 0.01),
    ),
    _of("lineart", "Lineart", "lineart_realistic", needs=(weights.LINEART,), network="lines:load_lineart"),
    _of("lineart_coarse", "Lineart", "", needs=(weights.LINEART_COARSE,), network="lines:load_lineart"),
    _of("lineart_anime_denoise", "Lineart", "", needs=(weights.MANGA,), network="lines:load_manga"),
    _of("lineart_anime", "Lineart", "", needs=(weights.ANIME,), network="lines:load_anime"),
    _of("ip-adapter_pulid", "IP-Adapter", "", lacks="a CLIP image encoder", resolution=None),
    _of("ip-adapter_face_id_plus", "IP-Adapter", "", lacks="a CLIP image encoder"),
    _of("ip-adapter_face_id", "IP-Adapter", "", lacks="a CLIP image encoder"),
    _of("ip-adapter_clip_sdxl_plus_vith", "IP-Adapter", ""),
    _of("ip-adapter_clip_sdxl", "IP-Adapter", "ip-adapter_clip_g"),
    _of("instant_id_face_keypoints", "Instant-ID", "", lacks="the face models of insightface", default=True),
    _of("instant_id_face_embedding", "Instant-ID", "", lacks="the face models of insightface"),
    _of(
        "inpaint_only+lama",
        "Inpaint",
        "",
        needs=(weights.LAMA,),
        network="inpainting:load_lama",
        masked=True,
        fixed_resolution=256,
        resolution=None,
    ),
    _of("facexlib", "", "", lacks="the detector of facexlib", resolution=None),
    _of(
        "dw_openpose_full",
        "OpenPose",
        "",
        needs=(weights.YOLOX, weights.DWPOSE),
        network="dwpose:load_people",
        gives="pose",
    ),
    _of("depth_zoe", "Depth", "", needs=(weights.ZOE,), network="depth:load_zoe"),
    _of(
        "depth_leres++",
        "Depth",
        "",
        needs=(weights.LERES, weights.LERES_MERGING),
        network="depth:load_boosted_leres",
        a=NEAR,
        b=FAR,
    ),
    _of("depth_leres", "Depth", "", needs=(weights.LERES,), network="depth:load_leres", a=NEAR, b=FAR),
    _of("depth_hand_refiner", "Depth", "", lacks="hand_refiner.pth"),
    _of("depth_anything_v2", "Depth", "", needs=(weights.ANYTHING_V2,), network="depth:load_anything_v2"),
    _of("depth_anything", "Depth", "", needs=(weights.ANYTHING,), network="depth:load_anything"),
    _of(
        "densepose_parula",
        "OpenPose",
        "densepose_parula (black bg & blue torso)",
        lacks="densepose_r50_fpn_dl.torchscript",
    ),
    _of("densepose", "OpenPose", "densepose (pruple bg & purple torso)", lacks="densepose_r50_fpn_dl.torchscript"),
    _of(
        "animal_openpose",
        "OpenPose",
        "",
        needs=(weights.YOLOX, weights.ANIMALS),
        network="dwpose:load_animals",
        gives="pose",
    ),
)

ORDER = (
    "none", "ip-adapter-auto", "tile_resample", "pidinet", "oneformer_ade20k", "pidinet_scribble",
    "revision_clipvision", "reference_only", "recolor_luminance", "openpose_full", "normal_bae", "mlsd",
    "lineart_standard", "ip-adapter_clip_sd15", "inpaint_only", "depth", "canny", "invert", "tile_colorfix+sharp",
    "tile_colorfix", "threshold", "clip_vision", "pidinet_sketch", "color", "softedge_teed", "pidinet_safe",
    "hed_safe", "hed", "softedge_anyline", "shuffle", "segmentation", "oneformer_coco", "anime_face_segment",
    "scribble_xdog", "scribble_hed", "revision_ignore_prompt", "reference_adain+attn", "reference_adain",
    "recolor_intensity", "openpose_hand", "openpose_faceonly", "openpose_face", "openpose", "normal_map",
    "normal_dsine", "mobile_sam", "mediapipe_face", "lineart", "lineart_coarse", "lineart_anime_denoise",
    "lineart_anime", "ip-adapter_pulid", "ip-adapter_face_id_plus", "ip-adapter_face_id",
    "ip-adapter_clip_sdxl_plus_vith", "ip-adapter_clip_sdxl", "instant_id_face_keypoints",
    "instant_id_face_embedding", "inpaint_only+lama", "inpaint", "facexlib", "dw_openpose_full", "depth_zoe",
    "depth_leres++", "depth_leres", "depth_hand_refiner", "depth_anything_v2", "depth_anything", "densepose_parula",
    "densepose", "blur_gaussian", "animal_openpose",
)  # fmt: skip
"""As sd-webui-controlnet lists them."""

PREPROCESSORS = tuple(sorted(_ALL, key=lambda item: ORDER.index(item.id)))
