"""CLIP's text encoder as SD 1.x stores it (Hugging Face's names below `cond_stage_model.transformer.`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from webui.catalog.shapes import MAX_LAYERS, Shapes, size_of
from webui.core.errors import BadModelFile

HEAD_WIDTH = 64


@dataclass(frozen=True)
class TextLayout:
    """intermediate: width inside the feed-forward layers. positions: tokens per chunk, 77."""

    vocabulary: int
    width: int
    layers: int
    intermediate: int
    positions: int

    @property
    def usual_heads(self) -> int:
        """CLIP's heads are 64 wide; narrower encoders have four heads at least."""
        return max(4, self.width // HEAD_WIDTH)


def text_prefix(shapes: Shapes, prefix: str) -> str:
    """`prefix`, or `prefix` + "text_model." where the file has that part (old files lack it)."""
    longer = f"{prefix}text_model."
    return longer if any(key.startswith(longer) for key in shapes) else prefix


def read_text_layout(shapes: Shapes, prefix: str, file: str) -> TextLayout:
    """Raises: BadModelFile when the text encoder is missing or incomplete."""
    layer = f"{prefix}encoder.layers."
    layers = next(n for n in itertools.count() if f"{layer}{n}.layer_norm1.weight" not in shapes)
    if not layers:
        raise BadModelFile(f"{file} has no text encoder ({prefix}encoder); a checkpoint with all its parts is needed.")
    if layers > MAX_LAYERS:
        raise BadModelFile(f"{file} has an impossible text encoder of {layers} layers.")
    return TextLayout(
        vocabulary=size_of(shapes, f"{prefix}embeddings.token_embedding.weight", 0, file),
        width=size_of(shapes, f"{prefix}embeddings.token_embedding.weight", 1, file),
        layers=layers,
        intermediate=size_of(shapes, f"{layer}0.mlp.fc1.weight", 0, file),
        positions=size_of(shapes, f"{prefix}embeddings.position_embedding.weight", 0, file),
    )


def build_text_encoder(layout: TextLayout, heads: int) -> CLIPTextModel:
    """The encoder without weights (on the meta device).

    heads: must divide the width.
    """
    config = CLIPTextConfig(
        vocab_size=layout.vocabulary,
        hidden_size=layout.width,
        intermediate_size=layout.intermediate,
        num_hidden_layers=layout.layers,
        num_attention_heads=heads,
        max_position_embeddings=layout.positions,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
    )
    with torch.device("meta"):
        encoder = CLIPTextModel(config)
    encoder.embeddings.position_ids = torch.arange(layout.positions).unsqueeze(0)  # a buffer that no file holds
    return encoder


def stored_text_keys(keys: Iterable[str], prefix: str) -> dict[str, str]:
    """Each of transformers' `keys` -> the key in the file."""
    return {key: prefix + key for key in keys}
