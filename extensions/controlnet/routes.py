"""The routes of sd-webui-controlnet that its clients ask."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from pydantic import AliasChoices, BaseModel, Field

from webui.extensions.api import InvalidRequest, decode_file, encode_image

from . import detecting
from .catalog import control_types, model_names, refresh
from .preprocessors.poses import draw_poses
from .preprocessors.registry import PREPROCESSORS, Preprocessor, Slider
from .preprocessors.weights import with_weights
from .units import Unit, find_preprocessor

LARGEST_PICTURE = 96 << 20
"""Bytes of a picture's file."""
MOST_POSES = 64


class Detect(BaseModel):
    """What /controlnet/detect takes: pictures in base64; -1 is a preprocessor's own default.

    Older clients, webuiapi among them, say controlnet_images.
    """

    controlnet_module: str = "none"
    controlnet_input_images: list[str] = Field(
        [], validation_alias=AliasChoices("controlnet_input_images", "controlnet_images")
    )
    controlnet_masks: list[str] = []
    controlnet_processor_res: float = -1
    controlnet_threshold_a: float = -1
    controlnet_threshold_b: float = -1
    low_vram: bool = False


def add(app, easel) -> None:
    from fastapi import APIRouter

    router = APIRouter(prefix="/controlnet", tags=["ControlNet"])

    @router.get("/version")
    def version() -> dict[str, int]:
        """The version of the interface."""
        return {"version": 3}

    @router.get("/settings")
    def settings() -> dict[str, int]:
        """How many units there are."""
        return {"control_net_unit_count": int(easel.settings.snapshot()["control_net_unit_count"])}

    @router.get("/model_list")
    def model_list(update: bool = True) -> dict[str, list[str]]:
        """The control models by `name [hash]`. update: look at the folders again."""
        if update:
            refresh(easel)
        return {"model_list": list(model_names(easel))}

    @router.get("/module_list")
    def module_list(alias_names: bool = False) -> dict[str, Any]:
        """The preprocessors and their sliders."""
        return _listed_modules(alias_names)

    @router.get("/control_types")
    def types() -> dict[str, Any]:
        """Preprocessors and models by control type."""
        return {"control_types": control_types(model_names(easel))}

    @router.post("/detect")
    def detect(body: Detect) -> dict[str, Any]:
        """Run a preprocessor on pictures: at once if it needs no network, else when its turn comes."""
        preprocessor = find_preprocessor(body.controlnet_module)
        preprocessor.require_runnable()
        if not body.controlnet_input_images:
            raise InvalidRequest("controlnet_input_images has no picture.")
        if preprocessor.masked and len(body.controlnet_masks) != len(body.controlnet_input_images):
            raise InvalidRequest(f'The preprocessor "{preprocessor.label}" needs a mask for each picture.')
        return _by_network(easel, body) if preprocessor.network else _at_once(preprocessor, body)

    @router.post("/render_openpose_json")
    def render(poses: list[dict[str, Any]]) -> dict[str, Any]:
        """The pictures of poses, each as the editor and /controlnet/detect have it."""
        from . import maps

        if len(poses) > MOST_POSES:
            raise InvalidRequest(f"{len(poses)} poses are too many for one request; send up to {MOST_POSES}.")
        return {"info": "Success", "images": [_png(maps.picture_of(draw_poses(pose))) for pose in poses]}

    app.include_router(router)


def _listed_modules(alias_names: bool) -> dict[str, Any]:
    names = [item.label if alias_names else item.id for item in PREPROCESSORS]
    details = {
        name: {"model_free": item.model_free, "sliders": [_described(slider) for slider in item.sliders]}
        for name, item in zip(names, PREPROCESSORS, strict=True)
    }
    return {"module_list": names, "module_detail": details}


def _described(slider: Slider) -> dict[str, Any]:
    return {
        "name": slider.name,
        "value": slider.value,
        "min": slider.minimum,
        "max": slider.maximum,
        "step": slider.step,
    }


def _at_once(preprocessor: Preprocessor, body: Detect) -> dict[str, Any]:
    """What a preprocessor without a network makes of the pictures."""
    from . import maps

    asked = (
        (preprocessor.resolution, body.controlnet_processor_res),
        (preprocessor.a, body.controlnet_threshold_a),
        (preprocessor.b, body.controlnet_threshold_b),
    )
    resolution, a, b = (0 if slider is None else slider.admitted(value) for slider, value in asked)
    images = []
    for number, text in enumerate(body.controlnet_input_images):
        source = maps.opaque(_bytes(text, f"controlnet_input_images[{number}]"), f"Picture {number}")
        if preprocessor.masked:
            name = f"controlnet_masks[{number}]"
            mask = maps.levels(_bytes(body.controlnet_masks[number], name), name)
            if mask.shape != source.shape[:2]:
                raise InvalidRequest(f"{name} is of another size than its picture.")
            source = np.dstack([source, mask])
        drawn = maps.draw(preprocessor, source, round(resolution), a, b)
        images.append(_png(maps.picture_of(drawn.map)))
    return {"info": "Success", "images": images}


def _by_network(easel: Any, body: Detect) -> dict[str, Any]:
    """As a job, for which the answer waits."""
    units = []
    for number, text in enumerate(body.controlnet_input_images):
        masked = number < len(body.controlnet_masks)
        unit = Unit(
            enabled=True,
            module=body.controlnet_module,
            processor_res=body.controlnet_processor_res,
            threshold_a=body.controlnet_threshold_a,
            threshold_b=body.controlnet_threshold_b,
            image=_bytes(text, f"controlnet_input_images[{number}]"),
            mask=_bytes(body.controlnet_masks[number], f"controlnet_masks[{number}]") if masked else None,
        )
        units.append(with_weights(unit, easel))
    job_id = easel.jobs.submit(detecting.KIND, detecting.Detection(tuple(units)))
    found = easel.jobs.result(job_id, timeout=None)
    answer: dict[str, Any] = {"info": "Success"}
    answer["images"] = [_text(picture) for picture in found.pictures]
    if found.poses:
        answer["poses"] = [json.loads(pose) for pose in found.poses]
    return answer


def _bytes(text: str, name: str) -> bytes:
    return decode_file(text, name, LARGEST_PICTURE, kind="picture")


def _png(picture: Any) -> str:
    return _text(encode_image(picture, "png", None))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
