"""LoRAs of motion modules: camera moves and the like, on while a clip is sampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .names import placed
from .network import Motion


@contextmanager
def loras_on(motion: Motion, loras: Sequence[Any]) -> Iterator[list[str]]:
    """Until the context ends the motion modules have these LoRAs, then the very weights that they had.

    Yields: sentences about what doesn't fit.
    """
    changes: dict[nn.Module, Tensor] = {}
    remarks = []
    for lora in loras:
        unused = 0
        for name, tensors in lora.modules.items():
            layer, change = _layer(motion, name), _change(tensors)
            if layer is None or change is None or change.shape != layer.weight.shape:
                unused += 1
                continue
            change = change.to(layer.weight.device) * lora.strength
            changes[layer] = changes[layer] + change if layer in changes else change
        if unused:
            remarks.append(
                f"Of the motion LoRA {lora.name!r}, {unused} of {len(lora.modules)} modules don't fit {motion.name} "
                f"({motion.family.name}) and were left out."
            )
    with ExitStack() as before:
        for layer, change in changes.items():
            original = layer.weight
            before.callback(partial(setattr, layer, "weight", original))
            with torch.no_grad():
                changed = (original.float() + change).to(original.dtype)
            layer.weight = nn.Parameter(changed, requires_grad=False)
        yield remarks


def _layer(motion: Motion, name: str) -> nn.Linear | None:
    """The layer that a LoRA's module is for, None where the motion module has no such."""
    found = placed(name)
    module = motion.modules.get(found[0]) if found else None
    if found is None or module is None:
        return None
    layer: Any = module
    for part in found[1].split("."):
        layer = getattr(layer, part, None)
    return layer if isinstance(layer, nn.Linear) else None


def _change(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """(out, in) float32 of a low-rank network, None for one of another kind."""
    up, down = tensors.get("lora_up"), tensors.get("lora_down")
    if up is None or down is None:
        return None
    up, down = up.flatten(1).float(), down.flatten(1).float()
    if up.shape[1] != down.shape[0]:
        return None
    alpha = float(tensors["alpha"]) if "alpha" in tensors else float(len(down))
    return up @ down * (alpha / len(down))
