"""How large a batch the machine's memory allows, told before anything is loaded."""

from __future__ import annotations

import math

import torch

from webui.core.errors import InvalidRequest
from webui.core.memory import available_bytes
from webui.models.devices import total_bytes
from webui.planning.plan import GenerationPlan

FINISHED_BYTES = 48
"""Of main memory that a pixel of a finished picture takes: as numbers, as levels, as a file."""
CPU_BYTES = 512
GPU_BYTES = 256
"""Of the device's memory that a pixel takes at least while the smallest real model samples it: single and half
precision. These are limits for what can't go well, no estimates; what may go well is tried."""


def require_machine(plan: GenerationPlan, device: torch.device) -> None:
    """Raises: InvalidRequest for a pass that is larger than the machine has memory for."""
    count = plan.request.batch_size
    passes = {"": (plan.first.width, plan.first.height)}
    if plan.hires is not None:
        passes["Hires. fix: "] = plan.hires.upscale_width, plan.hires.upscale_height
    together = min(plan.together or count, count)
    finished, computed = int(available_bytes() / FINISHED_BYTES), math.inf
    if device.type == "cpu":
        computed = available_bytes() / CPU_BYTES
    elif device.type == "cuda":
        computed = total_bytes(device) / GPU_BYTES
    most = min(finished, int(computed * count / together)) if math.isfinite(computed) else finished
    for name, (width, height) in passes.items():
        if width * height * count > most:
            what = f"{count} pictures of {width} x {height} at once are" if count > 1 else f"{width} x {height} is"
            raise InvalidRequest(f"{name}{what} more than this machine has memory for now. {_fitting(most, count)}")


def require_room_for(width: int, height: int) -> None:
    """Whether a picture may be made this large. Raises: InvalidRequest."""
    most = int(available_bytes() / FINISHED_BYTES)
    if width * height > most:
        raise InvalidRequest(f"{width} x {height} is more than this machine has memory for now. {_fitting(most, 1)}")


def _fitting(pixels: int, count: int) -> str:
    side = math.isqrt(pixels // count) // 8 * 8
    also = ", or more of a smaller batch" if count > 1 else ""
    return f"It can do {count if count > 1 else 'one'} of {side} x {side}{also}: lower the size."
