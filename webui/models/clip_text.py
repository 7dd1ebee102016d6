"""CLIP's text encoders in the two spellings that checkpoints have: Hugging Face's and OpenCLIP's.

OpenCLIP fuses a layer's q, k and v into one tensor and stores its projection the other way round.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from webui.catalog.shapes import MAX_LAYERS, Shapes, size_of
from webui.core.errors import BadModelFile
from webui.models.components import Source

HEAD_WIDTH = 64
OPEN_CLIP_NAMES: Mapping[str, str] = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
OPEN_CLIP_FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
OPEN_CLIP_TOP: Mapping[str, str] = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


@dataclass(frozen=True)
class TextLayout:
    """intermediate: width inside the feed-forward layers. positions: tokens per chunk, 77.

    prefix: what the file's keys begin with. open_clip: they are OpenCLIP's. projection: width of what is pooled
    after a projection, 0 when the file has none.
    """

    vocabulary: int
    width: int
    layers: int
    intermediate: int
    positions: int
    prefix: str = ""
    open_clip: bool = False
    projection: int = 0

    @property
    def usual_heads(self) -> int:
        """CLIP's heads are 64 wide; narrower encoders of Hugging Face's kind have four heads at least."""
        return max(1 if self.open_clip else 4, self.width // HEAD_WIDTH)

    def without_last(self) -> TextLayout:
        """For families that never read the last layer."""
        return replace(self, layers=self.layers - 1)


def text_prefix(shapes: Shapes, prefix: str) -> str:
    """`prefix`, or `prefix` + "text_model." where the file has that part (old files lack it)."""
    longer = f"{prefix}text_model."
    return longer if any(key.startswith(longer) for key in shapes) else prefix


def read_text_layout(shapes: Shapes, prefix: str, file: str) -> TextLayout:
    """The sizes of the encoder whose keys begin with `prefix`, whichever spelling they have.

    Raises: BadModelFile when the text encoder is missing or incomplete.
    """
    if any(key.startswith(f"{prefix}transformer.resblocks.") for key in shapes):
        return _read_open_clip_layout(shapes, prefix, file)
    inner = text_prefix(shapes, prefix)
    layer = f"{inner}encoder.layers."
    layers = _count(shapes, layer, ".layer_norm1.weight", inner, file)
    projection = shapes.get(f"{prefix}text_projection.weight", ())
    return TextLayout(
        vocabulary=size_of(shapes, f"{inner}embeddings.token_embedding.weight", 0, file),
        width=size_of(shapes, f"{inner}embeddings.token_embedding.weight", 1, file),
        layers=layers,
        intermediate=size_of(shapes, f"{layer}0.mlp.fc1.weight", 0, file),
        positions=size_of(shapes, f"{inner}embeddings.position_embedding.weight", 0, file),
        prefix=inner,
        projection=projection[0] if projection else 0,
    )


def _read_open_clip_layout(shapes: Shapes, prefix: str, file: str) -> TextLayout:
    layer = f"{prefix}transformer.resblocks."
    layers = _count(shapes, layer, ".ln_1.weight", prefix, file)
    stored = shapes.get(f"{prefix}text_projection", ()) or shapes.get(f"{prefix}text_projection.weight", ())[::-1]
    return TextLayout(
        vocabulary=size_of(shapes, f"{prefix}token_embedding.weight", 0, file),
        width=size_of(shapes, f"{prefix}token_embedding.weight", 1, file),
        layers=layers,
        intermediate=size_of(shapes, f"{layer}0.mlp.c_fc.weight", 0, file),
        positions=size_of(shapes, f"{prefix}positional_embedding", 0, file),
        prefix=prefix,
        open_clip=True,
        projection=stored[-1] if stored else 0,
    )


def _count(shapes: Shapes, layer: str, part: str, prefix: str, file: str) -> int:
    layers = next(n for n in itertools.count() if f"{layer}{n}{part}" not in shapes)
    if not layers:
        raise BadModelFile(f"{file} has no text encoder ({prefix}*); a checkpoint with all its parts is needed.")
    if layers > MAX_LAYERS:
        raise BadModelFile(f"{file} has an impossible text encoder of {layers} layers.")
    return layers


def build_text_encoder(
    layout: TextLayout, heads: int, *, activation: str = "quick_gelu", projected: bool = False
) -> CLIPTextModel | CLIPTextModelWithProjection:
    """The encoder without weights (on the meta device).

    heads: must divide the width. activation: OpenAI's CLIP has "quick_gelu", OpenCLIP's models "gelu".
    projected: it projects what it pools.
    """
    config = CLIPTextConfig(
        vocab_size=layout.vocabulary,
        hidden_size=layout.width,
        intermediate_size=layout.intermediate,
        num_hidden_layers=layout.layers,
        num_attention_heads=heads,
        max_position_embeddings=layout.positions,
        projection_dim=layout.projection or layout.width,
        hidden_act=activation,
        layer_norm_eps=1e-5,
        attn_implementation="eager",  # written out as A1111's is: emphasis can magnify the last digit
        eos_token_id=49407,
    )
    with torch.device("meta"):
        encoder = CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)
    core = getattr(encoder, "text_model", encoder)
    core.embeddings.position_ids = torch.arange(layout.positions).unsqueeze(0)  # a buffer that no file holds
    return encoder


def text_sources(layout: TextLayout, keys: Iterable[str], shapes: Shapes) -> dict[str, Source]:
    """Each of transformers' `keys` -> where the file has it."""
    return {key: _text_source(layout, key.removeprefix("text_model."), shapes) for key in keys}


def _text_source(layout: TextLayout, key: str, shapes: Shapes) -> Source:
    prefix = layout.prefix
    if key == "text_projection.weight":
        plain = prefix if layout.open_clip else prefix.removesuffix("text_model.")
        stored_so = not layout.open_clip or f"{plain}text_projection.weight" in shapes
        return (
            Source(f"{plain}text_projection.weight")
            if stored_so
            else Source(f"{plain}text_projection", transposed=True)
        )
    if not layout.open_clip:
        return Source(prefix + key)
    if key in OPEN_CLIP_TOP:
        return Source(prefix + OPEN_CLIP_TOP[key])
    _, _, number, rest = key.split(".", 3)
    name, _, kind = rest.rpartition(".")
    layer = f"{prefix}transformer.resblocks.{number}."
    if name in OPEN_CLIP_FUSED:
        return Source(f"{layer}attn.in_proj_{kind}", OPEN_CLIP_FUSED.index(name), len(OPEN_CLIP_FUSED))
    return Source(f"{layer}{OPEN_CLIP_NAMES[name]}.{kind}")
