"""What a newcomer should know: sentences for the top of the page."""

from __future__ import annotations

import json

from webui.catalog.checkpoints import Checkpoint
from webui.catalog.safetensors_header import read_header
from webui.core.errors import WebuiError
from webui.services.checkpoint_defaults import defaults_of
from webui.services.services import Services


def first_run_hint(services: Services) -> str | None:
    """Where to put real models and what the shipped one can do; None once there is another checkpoint."""
    if any(not checkpoint.embedded for checkpoint in services.checkpoints):
        return None
    folder = services.paths.checkpoints[0]
    if not len(services.checkpoints):
        return f"There is no checkpoint yet: put a Stable Diffusion 1.5 .safetensors file into {folder} and press 🔄."
    shipped = services.checkpoints.all()[0]
    prompts = " or ".join(f"“{prompt}”" for prompt in _examples(shipped))
    return (
        f"The small model that ships with Easel draws emoji at {defaults_of(shipped).size} px"
        + (f": try {prompts}. " if prompts else ". ")
        + "For real pictures put a Stable Diffusion checkpoint (.safetensors, e.g. from huggingface.co or civitai.com) "
        f"into {folder} and press 🔄 beside the checkpoint list."
    )


def _examples(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Prompts that show a checkpoint well, as its own metadata has them; none when it has no such thing."""
    try:
        own = json.loads(read_header(checkpoint.path).metadata.get("easel", "{}"))
    except (WebuiError, OSError, ValueError):
        return ()
    return tuple(own["examples"]) if isinstance(own, dict) and isinstance(own.get("examples"), list) else ()
