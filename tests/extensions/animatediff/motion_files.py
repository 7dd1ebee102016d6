"""Small motion modules of every family, with random weights, in the layouts of AnimateDiff and of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_motion_model import MotionAdapter
from safetensors.torch import save_file
from torch import Tensor

SD1, SDXL = (32, 64, 64, 64), (32, 64, 64)
FAMILIES: Mapping[str, dict[str, Any]] = {
    "AnimateDiff v1": {"widths": SD1, "positions": 24, "middle": False},
    "AnimateDiff v2": {"widths": SD1, "positions": 32, "middle": True},
    "AnimateDiff v3": {"widths": SD1, "positions": 32, "middle": False},
    "AnimateDiff-SDXL": {"widths": SDXL, "positions": 32, "middle": False},
    "HotShot-XL": {"widths": SDXL, "positions": 24, "middle": False},
    "AnimateLCM": {"widths": SD1, "positions": 64, "middle": True},
}
ORIGINAL_NAMES = (
    ("attn1.", "attention_blocks.0."),
    ("attn2.", "attention_blocks.1."),
    ("norm1.", "norms.0."),
    ("norm2.", "norms.1."),
    ("norm3.", "ff_norm."),
)


def adapter(family: str, seed: int = 0) -> MotionAdapter:
    """diffusers' own, whose output isn't zero."""
    facts = FAMILIES[family]
    torch.manual_seed(seed)
    made = MotionAdapter(
        block_out_channels=facts["widths"],
        motion_max_seq_length=facts["positions"],
        use_motion_mid_block=facts["middle"],
    )
    for name, weight in made.named_parameters():
        if name.endswith("weight") and weight.ndim == 2:
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return made.eval()


def tensors_of(made: MotionAdapter, family: str, layout: str) -> dict[str, Tensor]:
    """layout: "diffusers", or "original", with its wrapper; AnimateLCM stores no positions."""
    stored: dict[str, Tensor] = {}
    for name, tensor in made.state_dict().items():
        if family == "AnimateLCM" and name.endswith(".pe"):
            continue
        if layout == "diffusers":
            stored[name] = tensor
            continue
        place, number, inner = name.partition(".motion_modules.")
        index, _, rest = inner.partition(".")
        for theirs, original in ORIGINAL_NAMES:
            rest = rest.replace(f".{theirs}", f".{original}")
        assert number
        whole = f"module.{place}.motion_modules.{index}.temporal_transformer.{rest}"
        if "pos_embed.pe" in rest:
            for block in range(2):
                stored[whole.replace("pos_embed.pe", f"attention_blocks.{block}.pos_encoder.pe")] = tensor.clone()
        else:
            stored[whole] = tensor
    return stored


def write_motion(folder: Path, family: str, layout: str = "original", *, name: str = "", seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name or family}.safetensors"
    save_file(
        {key: value.contiguous() for key, value in tensors_of(adapter(family, seed), family, layout).items()}, path
    )
    return path
