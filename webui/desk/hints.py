"""What a newcomer should know: sentences for the top of the page."""

from __future__ import annotations

from webui.desk.native_size import native_size
from webui.desk.services import Services


def first_run_hint(services: Services) -> str | None:
    """Where to put real models and what the shipped one can do; None once there is another checkpoint."""
    if any(not checkpoint.embedded for checkpoint in services.checkpoints):
        return None
    folder = services.paths.checkpoints[0]
    if not len(services.checkpoints):
        return f"There is no checkpoint yet: put a Stable Diffusion 1.5 .safetensors file into {folder} and press 🔄."
    size = native_size(services.checkpoints.all()[0])
    return (
        f"The small model that ships with Easel draws a few simple emoji at {size} px. For real pictures put a "
        f"Stable Diffusion 1.5 checkpoint (.safetensors, e.g. from huggingface.co or civitai.com) into {folder} and "
        "press 🔄 beside the checkpoint list."
    )
