"""From the text that describes a picture to the form that would make it again."""

from __future__ import annotations

from typing import Any

from webui.core.errors import InvalidRequest
from webui.desk.services import Services


def last_infotext(services: Services) -> str:
    """The infotext of the last generation, from params.txt. Raises: InvalidRequest when there is none."""
    try:
        return services.paths.params_txt.read_text(encoding="utf-8")
    except OSError:
        raise InvalidRequest("The prompt is empty and nothing has been generated yet, so there is nothing to read.") from None


def form_from_infotext(text: str, services: Services) -> dict[str, Any]:
    return {"prompt": text}
