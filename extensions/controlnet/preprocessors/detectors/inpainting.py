"""LaMa (Suvorov et al. 2022), which fills what a mask covers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from webui.extensions.api import BadModelFile, read_weights

from .loading import tensor_of

Picture = Any


def load_lama(files: Sequence[Path], device: Any) -> Callable[[Picture, float, float], Picture]:
    """Of a picture with its mask as fourth channel (H, W, 4): its three colours with the masked part filled."""
    from spandrel import ModelLoader
    from spandrel.architectures.LaMa import LaMa

    weights = {name.replace("generator.model", "model.model"): value for name, value in read_weights(files[0]).items()}
    try:
        loaded = ModelLoader().load_from_state_dict(
            {name: value for name, value in weights.items() if name.startswith("model.model.")}
        )
    except Exception as error:  # spandrel raises what it stumbles over
        raise BadModelFile(f"{files[0].name} doesn't hold the weights of LaMa. Fetch the file again.") from error
    if not isinstance(loaded.model, LaMa):
        raise BadModelFile(f"{files[0].name} doesn't hold the weights of LaMa. Fetch the file again.")
    network = loaded.model.requires_grad_(False).eval().float().to(device)

    def detect(picture: Picture, _a: float, _b: float) -> Picture:
        feed = tensor_of(picture, device) / 255
        colours, mask = feed[:, :3], (feed[:, 3:] > 0.5).float()
        with torch.inference_mode():
            filled = network(colours * (1 - mask), mask)
        mixed = filled * mask + colours * (1 - mask)
        return (mixed[0].permute(1, 2, 0).cpu().numpy() * 255).clip(0, 255).astype(np.uint8)

    return detect
