"""IP-Adapter: a picture as a prompt. Each cross-attention gets keys and values made of the picture beside the text's.

Ye et al. 2023, arXiv:2308.06721, on diffusers' projections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers.models.embeddings import (
    ImageProjection,
    IPAdapterFullImageProjection,
    IPAdapterPlusImageProjection,
)
from torch import Tensor, nn

Shapes = Mapping[str, Sequence[int]]
Projection = Literal["plain", "plus", "full", "face"]
HEAD_WIDTH = 64
"""Of the heads in "plus" projections; a file doesn't tell it."""
PLUS = (
    (r"layers\.(\d+)\.0\.norm1\.", r"layers.\1.ln0."),
    (r"layers\.(\d+)\.0\.norm2\.", r"layers.\1.ln1."),
    (r"layers\.(\d+)\.0\.to_q\.", r"layers.\1.attn.to_q."),
    (r"layers\.(\d+)\.0\.to_out\.", r"layers.\1.attn.to_out.0."),
    (r"layers\.(\d+)\.1\.0\.", r"layers.\1.ff.0."),
    (r"layers\.(\d+)\.1\.1\.", r"layers.\1.ff.1.net.0.proj."),
    (r"layers\.(\d+)\.1\.3\.", r"layers.\1.ff.1.net.2."),
)
"""Names of the original layout -> diffusers', beside what is split."""
PLAIN = ((r"^proj\.", "image_embeds."),)
FULL = ((r"^proj\.0\.", "ff.net.0.proj."), (r"^proj\.2\.", "ff.net.2."), (r"^proj\.3\.", "norm."))


@dataclass(frozen=True)
class Layout:
    """What a file's shapes tell. picture_width: channels of the encoder's output that it reads."""

    projection: Projection
    picture_width: int
    context_width: int
    widths: tuple[int, ...]

    @property
    def reads_layers(self) -> bool:
        """Whether it reads the encoder's last layer but one, not its summary."""
        return self.projection in ("plus", "full")


def read_layout(shapes: Shapes) -> Layout:
    """shapes: of weights in the original layout."""
    own = {name.removeprefix("image_proj."): shape for name, shape in shapes.items() if name.startswith("image_proj.")}
    keys = sorted((int(match[1]), name) for name in shapes if (match := re.fullmatch(KEY, name)))
    context = shapes[keys[0][1]][1]
    widths = tuple(shapes[name][0] for _, name in keys)
    if any(name.startswith("perceiver_resampler.") for name in own) or own.get("proj.0.weight", (0, 0))[1] == 512:
        return Layout("face", 512, context, widths)
    if "latents" in own:
        return Layout("plus", own["proj_in.weight"][1], context, widths)
    if "proj.3.weight" in own:
        return Layout("full", own["proj.0.weight"][1], context, widths)
    return Layout("plain", own["proj.weight"][1], context, widths)


KEY = r"ip_adapter\.(\d+)\.to_k_ip\.weight"


class IPAdapter(nn.Module):
    """The network of a file. keys, values: of each cross-attention; on the way down, then up, then in the middle."""

    def __init__(self, layout: Layout, projection: nn.Module) -> None:
        super().__init__()
        self.layout = layout
        self.projection = projection
        self.keys = nn.ModuleList(nn.Linear(layout.context_width, width, bias=False) for width in layout.widths)
        self.values = nn.ModuleList(nn.Linear(layout.context_width, width, bias=False) for width in layout.widths)

    def tokens(self, picture: Tensor) -> Tensor:
        """(N, tokens, context_width) of what the encoder made of pictures: (N, D), or (N, T, D) if it reads layers."""
        weight = next(self.projection.parameters())
        made: Tensor = self.projection(picture.to(weight.device, weight.dtype))
        return made


def load(weights: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> IPAdapter:
    """weights: as a file has them. Raises: KeyError, RuntimeError for other files."""
    layout = read_layout({name: tuple(weight.shape) for name, weight in weights.items()})
    own = {name.removeprefix("image_proj."): part for name, part in weights.items() if name.startswith("image_proj.")}
    named = _projection_names(own, layout.projection)
    with torch.device("meta"):
        network = IPAdapter(layout, _projection(named, layout))
    state = {f"projection.{name}": weight for name, weight in named.items()}
    places = sorted(int(match[1]) for name in weights if (match := re.fullmatch(KEY, name)))
    for number, place in enumerate(places):
        state[f"keys.{number}.weight"] = weights[f"ip_adapter.{place}.to_k_ip.weight"]
        state[f"values.{number}.weight"] = weights[f"ip_adapter.{place}.to_v_ip.weight"]
    network.load_state_dict({name: weight.to(device, dtype) for name, weight in state.items()}, assign=True)
    return network.eval().requires_grad_(False)


def _projection_names(own: Mapping[str, Tensor], kind: Projection) -> dict[str, Tensor]:
    """Weights of the projection under diffusers' names."""
    named: dict[str, Tensor] = {}
    for name, weight in own.items():
        if match := re.fullmatch(r"(layers\.\d+)\.0\.to_kv\.weight", name):
            named[f"{match[1]}.attn.to_k.weight"], named[f"{match[1]}.attn.to_v.weight"] = weight.chunk(2)
            continue
        for pattern, new in {"plus": PLUS, "full": FULL}.get(kind, PLAIN):
            name = re.sub(pattern, new, name)
        named[name] = weight
    return named


def _projection(named: Mapping[str, Tensor], layout: Layout) -> nn.Module:
    """Without weights. named: under diffusers' names."""
    if layout.projection == "full":
        return IPAdapterFullImageProjection(layout.picture_width, layout.context_width)
    if layout.projection == "plain":
        tokens = named["image_embeds.weight"].shape[0] // layout.context_width
        return ImageProjection(layout.picture_width, layout.context_width, tokens)
    hidden = named["proj_in.weight"].shape[0]
    depth = 1 + max(int(match[1]) for name in named if (match := re.match(r"layers\.(\d+)\.", name)))
    return IPAdapterPlusImageProjection(
        embed_dims=layout.picture_width,
        output_dims=layout.context_width,
        hidden_dims=hidden,
        depth=depth,
        dim_head=HEAD_WIDTH,
        heads=named["layers.0.attn.to_q.weight"].shape[0] // HEAD_WIDTH,
        num_queries=named["latents"].shape[1],
        ffn_ratio=named["layers.0.ff.1.net.0.proj.weight"].shape[0] / hidden,
    )
