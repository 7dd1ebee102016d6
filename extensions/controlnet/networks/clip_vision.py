"""CLIP's image encoder, of which IP-Adapters read pictures: from a file in transformers' layout."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Shapes = Mapping[str, Sequence[int]]
CLASS = "vision_model.embeddings.class_embedding"
HEAD_WIDTHS = {1024: 64, 1280: 80, 1664: 104}
"""Width -> of a head, in ViT-L, ViT-H and ViT-bigG; 64 in others."""
QUICK = (768, 1024)
"""Widths of OpenAI's own models, which have another activation than OpenCLIP's."""


def is_encoder(shapes: Shapes) -> bool:
    return CLASS in shapes


def widths(shapes: Shapes) -> tuple[int, int]:
    """Channels of its layers and of its summary."""
    return shapes[CLASS][0], shapes["visual_projection.weight"][0] if "visual_projection.weight" in shapes else 0


def configuration(shapes: Shapes, file: Path) -> dict[str, Any]:
    """What transformers' CLIPVisionConfig is to say: a config.json beside the file, or what the shapes tell."""
    told = _config_beside(file)
    if told.get("hidden_size") == shapes[CLASS][0]:
        return told
    width, summary = widths(shapes)
    patch = shapes["vision_model.embeddings.patch_embedding.weight"][2]
    positions = shapes["vision_model.embeddings.position_embedding.weight"][0]
    layers = 1 + max(int(match[1]) for name in shapes if (match := re.search(r"encoder\.layers\.(\d+)\.", name)))
    return {
        "hidden_size": width,
        "intermediate_size": shapes["vision_model.encoder.layers.0.mlp.fc1.weight"][0],
        "projection_dim": summary or width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(width // HEAD_WIDTHS.get(width, 64), 1),
        "patch_size": patch,
        "image_size": round((positions - 1) ** 0.5) * patch,
        "hidden_act": "quick_gelu" if width in QUICK else "gelu",
    }


def _config_beside(file: Path) -> dict[str, Any]:
    """The part of config.json about the encoder; nothing where it isn't there or can't be read."""
    try:
        told = json.loads((file.parent / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    found = told.get("vision_config", told) if isinstance(told, dict) else {}
    return found if isinstance(found, dict) else {}


class ClipVision(nn.Module):
    """The encoder with its weights on a device."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def read(self, picture: Any, *, layers: bool) -> Tensor:
        """(2, D) summaries, or (2, T, D) of the last layer but one: of nothing, and of the picture (H, W, 3) uint8."""
        from transformers import CLIPImageProcessor

        edge = self.module.config.image_size
        processor = CLIPImageProcessor(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})
        weight = next(self.module.parameters())
        pixels = processor(picture, return_tensors="pt")["pixel_values"].to(weight.device, weight.dtype)
        if layers:
            both = self.module(torch.cat([torch.zeros_like(pixels), pixels]), output_hidden_states=True)
            hidden: Tensor = both.hidden_states[-2]
            return hidden
        summary: Tensor = self.module(pixels).image_embeds
        return torch.cat([torch.zeros_like(summary), summary])


def load(weights: Mapping[str, Tensor], file: Path, device: torch.device, dtype: torch.dtype) -> ClipVision:
    """weights: of the file, for which `is_encoder` holds. Raises: KeyError, RuntimeError for damaged ones."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    module = CLIPVisionModelWithProjection(CLIPVisionConfig(**configuration(shapes, file)))
    wanted = module.state_dict()
    own = {name: weights[name] for name in wanted if name in weights}
    missing = [name for name in wanted if name not in own and not name.endswith("position_ids")]
    if "visual_projection.weight" in missing:  # it has no summary, which nobody asks for then
        missing.remove("visual_projection.weight")
    if missing:
        raise KeyError(missing[0])
    module.load_state_dict(own, strict=False)
    return ClipVision(module.to(device, dtype).eval().requires_grad_(False))
