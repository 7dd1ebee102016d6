"""What can be told of a swap before any network is loaded."""

from __future__ import annotations

from webui.extensions.api import InvalidRequest, missing_detector

from . import face_models
from .analysis import roles_in
from .parameters import FACE_MODEL, FOLDER, Swap
from .swapping import swapper_file


def require(options: Swap, easel) -> None:
    """Raises: WebuiError in one sentence about the first thing that is missing or contradicts itself."""
    options.require_sense()
    models = easel.paths.models
    if options.upscaler_name:
        easel.choices.find_upscaler(options.upscaler_name)
    swapper_file(models, options.model)
    if options.select_source == FACE_MODEL:
        name = options.face_model.removesuffix(face_models.ENDING)
        if name not in face_models.names_in(models):
            known = ", ".join(face_models.names_in(models)[:5]) or "none"
            raise InvalidRequest(f'ReActor has no face model "{name[:100]}"; there are: {known}.')
    if options.select_source == FOLDER:
        easel.folder_of(options.source_folder)
    if roles_in(models).detector is None:
        missing = missing_detector(models)
        if missing:
            raise InvalidRequest(f"ReActor finds no faces yet. {missing}")
