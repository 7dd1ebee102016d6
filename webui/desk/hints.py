"""What a newcomer should know: sentences for the top of the page."""

from __future__ import annotations

from webui.desk.services import Services


def first_run_hint(services: Services) -> str | None:
    """Where to put real models and what the shipped one can do; None once there is another checkpoint."""
    if any(not checkpoint.embedded for checkpoint in services.checkpoints):
        return None
    folder = services.paths.checkpoints[0]
    if not len(services.checkpoints):
        return f"There is no checkpoint yet: put a Stable Diffusion 1.5 .safetensors file into {folder} and press 🔄."
    return (
        "You are using the small model that ships with Easel: it draws emoji-like subjects on plain backgrounds at "
        "its own small size. For real pictures download a Stable Diffusion 1.5 checkpoint (.safetensors), for "
        f"example from huggingface.co or civitai.com, put it into {folder} and press 🔄 beside the checkpoint list."
    )
