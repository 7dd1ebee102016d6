"""What a file in models/ControlNet is, told by its names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

Shapes = Mapping[str, Sequence[int]]
Kind = Literal[
    "ControlNet", "ControlNet Union", "Control-LoRA", "SparseCtrl", "T2I-Adapter", "T2I style adapter",
    "T2I-Adapter light", "IP-Adapter", "ControlLLLite",
]  # fmt: skip
USABLE = ("ControlNet", "ControlNet Union", "Control-LoRA", "T2I-Adapter", "IP-Adapter", "ControlLLLite")
KNOWN = "ControlNet (LDM or diffusers layout, union ones too), Control-LoRA, T2I-Adapter, IP-Adapter and ControlLLLite"


def recognise(shapes: Shapes) -> Kind | None:
    """What a file holds, None for none of these. shapes: of all its tensors, by name."""
    names = {_bare(name) for name in shapes}

    def has(*wanted: str) -> bool:
        return any(name in names for name in wanted)

    def begins(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    kind: Kind | None = None
    if has("lora_controlnet"):
        kind = "Control-LoRA"
    elif begins("down_blocks.0.motion_modules.") and begins("controlnet_"):
        kind = "SparseCtrl"
    elif begins("image_proj.") and begins("ip_adapter."):
        kind = "IP-Adapter"
    elif has("control_add_embedding.linear_1.bias"):
        kind = "ControlNet Union"
    elif has("input_hint_block.0.weight", "controlnet_cond_embedding.conv_in.weight"):
        kind = "ControlNet"
    elif has("conv_in.weight") and begins("body."):
        kind = "T2I-Adapter"
    elif has("style_embedding"):
        kind = "T2I style adapter"
    elif has("body.0.in_conv.weight"):
        kind = "T2I-Adapter light"
    elif any("lllite" in name for name in names):
        kind = "ControlLLLite"
    return kind


def is_difference(names: Iterable[str]) -> bool:
    """Whether the base model's weights are to be added to the file's."""
    return any(_bare(name) == "difference" for name in names)


def _bare(name: str) -> str:
    for prefix in ("control_model.", "adapter."):
        name = name.removeprefix(prefix)
    return name
