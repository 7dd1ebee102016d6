"""/reactor: faces exchanged in a picture, face models, and what there is to choose from."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from webui.extensions.api import Easel, Refused, Upscaler, decode_file

from . import face_models
from .checking import require
from .kinds import EXCHANGE, MODEL, Exchange, Model
from .parameters import Swap
from .swapping import swappers_in

RENAMED = {
    "source_image": "img",
    "face_index": "faces_index",
    "upscaler": "upscaler_name",
    "scale": "upscaler_scale",
    "upscale_visibility": "upscaler_visibility",
    "face_restorer": "face_restorer_name",
    "restorer_visibility": "face_restorer_visibility",
}
LARGEST_BODY = 256 * 2**20
KINDS_OF_FILES = (".png", ".jpg", ".jpeg")


class ImageRequest(BaseModel):
    """Defaults and names are those of ReActor's API; other fields are ignored, null is the default."""

    model_config = ConfigDict(extra="ignore")

    source_image: str = Field("", description="Base64; needed unless select_source says otherwise")
    target_image: str = Field("", description="Base64")
    source_faces_index: list[int] | str = [0]
    face_index: list[int] | str = [0]
    upscaler: str = "None"
    scale: float = 1
    upscale_visibility: float = 1
    face_restorer: str = "None"
    restorer_visibility: float = 1
    codeformer_weight: float = 0.5
    restore_first: int | bool = 1
    model: str = "inswapper_128.onnx"
    gender_source: int = 0
    gender_target: int = 0
    save_to_file: int | bool = 0
    result_file_path: str = Field("", description="Below the outputs folder; empty for one named by the time")
    device: str = "CPU"
    mask_face: int | bool = 0
    select_source: int = 0
    face_model: str = "None"
    source_folder: str = ""
    random_image: int | bool = 0
    upscale_force: int | bool = 0
    det_thresh: float = 0.5
    det_maxnum: int = 0
    keep_covered: bool = Field(False, description="Ours: leave what lies before the face")
    match_colors: bool = Field(False, description="Ours: take the target's colours")
    side: str = Field("128", description="Ours: pixels of a face: 128, 256 or 512")
    order_source: str = Field("left-right", description="Ours: the order in which faces are numbered")
    order_target: str = Field("left-right", description="Ours: the same of the target")


class ImageAnswer(BaseModel):
    image: str = Field(description="PNG in base64")
    comments: list[str] = Field(description="What was done, and what couldn't be")


class ModelRequest(BaseModel):
    source_images: list[str] = Field(description="Base64")
    name: str
    compute_method: int = Field(0, ge=0, le=2, description="0 mean, 1 median, 2 mode")


class ModelAnswer(BaseModel):
    facemodel: str = Field(description="How it went")


def router_for(easel: Easel) -> APIRouter:
    router = APIRouter(prefix="/reactor", tags=["ReActor"])

    @router.post("/image")
    def image(body: ImageRequest) -> ImageAnswer:
        """The target picture with its faces exchanged; as it is where that can't be done, with the reason."""
        target = picture_in(body.target_image, "target_image")
        asked = Exchange(target, options_of(body), result_file(body, easel))
        require(asked.options, easel)
        made = easel.jobs.result(easel.jobs.submit(EXCHANGE, asked), timeout=None)
        return ImageAnswer(image=base64.b64encode(made.picture).decode("ascii"), comments=list(made.comments))

    @router.get("/models")
    def models() -> dict[str, list[str]]:
        """The swapper files in models/insightface."""
        return {"models": swappers_in(easel.paths.models)}

    @router.get("/upscalers")
    def upscalers() -> dict[str, list[str]]:
        """The names of all upscalers."""
        return {"upscalers": list(easel.choices.names(Upscaler))}

    @router.get("/facemodels")
    def facemodels() -> dict[str, list[str]]:
        """The names of all face models."""
        return {"facemodels": face_models.names_in(easel.paths.models)}

    @router.post("/facemodels")
    def build(body: ModelRequest) -> ModelAnswer:
        """Keep the first face of each picture, blended into one, as a face model."""
        pictures = tuple(picture_in(text, f"source_images.{n}") for n, text in enumerate(body.source_images))
        asked = Model(pictures, body.name, face_models.METHODS[body.compute_method])
        return ModelAnswer(facemodel=easel.jobs.result(easel.jobs.submit(MODEL, asked), timeout=None).message)

    return router


def options_of(body: ImageRequest) -> Swap:
    """Raises: InvalidRequest."""
    own = ("target_image", "save_to_file", "result_file_path")
    given: dict[str, Any] = {
        RENAMED.get(name, name): value for name, value in body.model_dump().items() if name not in own
    }
    given["img"] = picture_in(body.source_image, "source_image") if body.source_image else None
    return Swap.checked(**Swap.from_api(given))


def picture_in(text: str, name: str) -> bytes:
    """Raises: InvalidRequest."""
    return decode_file(text, name, LARGEST_BODY, kind="picture")


def result_file(body: ImageRequest, easel: Easel) -> Path | None:
    """Where the result is to be written, None for nowhere. Raises: Refused for a place outside of the outputs."""
    if not body.save_to_file:
        return None
    outputs = easel.paths.outputs.resolve()
    name = body.result_file_path.strip() or f"api/output_{time.strftime('%Y-%m-%d_%H-%M-%S')}.png"
    path = (outputs / name).resolve()
    if not path.is_relative_to(outputs) or path.suffix.lower() not in KINDS_OF_FILES or "\0" in name:
        raise Refused(f'result_file_path "{name[:200]}" must be a .png or .jpg below the outputs folder.')
    return path
