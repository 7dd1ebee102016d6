"""What a plot of many pictures can vary of a swap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from webui.extensions.api import Axis, GenerationRequest, InvalidRequest

from .parameters import ReActor


def setting(name: str, read: Callable[[str], Any]) -> Callable[[GenerationRequest, Any], GenerationRequest]:
    def apply(request: GenerationRequest, value: Any) -> GenerationRequest:
        options = request.extensions.get(ReActor.__name__) or ReActor()
        try:
            changed = options.replace(**{name: read(str(value))})
        except ValueError as error:
            raise InvalidRequest(f"ReActor's {name} can't be \"{value}\".") from error
        return request.replace(extensions={**request.extensions, ReActor.__name__: changed})

    return apply


def truth(text: str) -> bool:
    """Raises: ValueError."""
    if text.strip().lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(text)
    return text.strip().lower() in ("true", "1", "yes")


AXES = (
    Axis("[ReActor] CodeFormer Weight", setting("codeformer_weight", float), type=float),
    Axis("[ReActor] Restorer Visibility", setting("face_restorer_visibility", float), type=float),
    Axis("[ReActor] Face Mask Correction", setting("mask_face", truth), lambda: ("True", "False")),
    Axis("[ReActor] Face Models", setting("face_model", str)),
)
