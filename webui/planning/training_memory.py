"""How much of the device's memory a training will take, told before it begins.

An estimate: weights, gradients and the optimizer's state are counted, what is kept for the way back is scaled from
measured trainings (SD 1.5, 512 pixels: 1.6 GB a picture in half precision without gradient checkpointing).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from webui.catalog.shapes import Shapes
from webui.core.training import TrainingRequest

UNET, VAE = "model.diffusion_model.", "first_stage_model."
PER_LATENT_PIXEL = 390_000
"""Bytes kept for the way back in half precision, for a U-Net whose first level is 320 wide."""
CHECKPOINTED = 0.3
"""What of it gradient checkpointing leaves."""
STATES = {"8bit": 2, "Lion": 4, "SGD": 4, "AdaFactor": 0}
"""Part of an optimizer's name -> bytes of state a weight; 8 for all others."""
RUNTIME = 600_000_000
"""Bytes of libraries and buffers."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes. weights: of the model. learning: what learns, gradients, the optimizer's state. way_back: of a step."""

    weights: int
    learning: int
    way_back: int

    @property
    def total(self) -> int:
        return self.weights + self.learning + self.way_back + RUNTIME


def estimate_memory(
    request: TrainingRequest, shapes: Shapes, size: tuple[int, int], *, unet: bool, text: bool
) -> MemoryEstimate:
    """shapes: of the checkpoint. size: (width, height) of the largest pictures. unet, text: which of them learn."""
    numerics, optimization = request.numerics, request.optimization
    counts = {"unet": 0, "vae": 0, "text": 0}
    for name, shape in shapes.items():
        part = "unet" if name.startswith(UNET) else "vae" if name.startswith(VAE) else "text"
        counts[part] += math.prod(shape)
    half = numerics.mixed_precision != "no"
    whole = request.kind == "dreambooth"
    width = 2 if half and not whole else 4
    learns = _learning(request, shapes, counts, unet=unet, text=text)
    states = next((size for part, size in STATES.items() if part in optimization.optimizer_type), 8)
    first = shapes.get(f"{UNET}input_blocks.0.0.weight", (320,))[0]
    pixels = size[0] * size[1] / 64
    way_back = PER_LATENT_PIXEL * pixels * optimization.train_batch_size * first / 320
    way_back *= (1 if half else 2) * (CHECKPOINTED if numerics.gradient_checkpointing else 1)
    own = 0 if whole else 4  # DreamBooth's weights are the model's own
    return MemoryEstimate(width * sum(counts.values()), (own + 4 + states) * learns, int(way_back))


def _learning(request: TrainingRequest, shapes: Shapes, counts: dict[str, int], *, unet: bool, text: bool) -> int:
    """How many numbers learn."""
    if request.kind == "dreambooth":
        return (counts["unet"] if unet else 0) + (counts["text"] if text else 0)
    if request.kind == "embedding":
        return 0
    if request.kind == "hypernetwork":
        return sum(4 * 2 * int(module) ** 2 for module in request.hypernetwork.modules)
    total = 0
    for name, shape in shapes.items():
        in_unet = name.startswith(UNET) and "transformer_blocks" in name and unet
        in_text = not name.startswith((UNET, VAE)) and text and (".layers." in name or ".resblocks." in name)
        if (in_unet or in_text) and name.endswith("weight") and len(shape) >= 2:
            total += request.lora.network_dim * (shape[0] + shape[1])
    return total
