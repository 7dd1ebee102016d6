"""Text encoders: rows of tokens into vectors. A family has one or several and joins what they give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerChoice:
    """Which layer the user wants. clip_skip: 1 is the last one. skip_sdxl: CLIP-L of SDXL obeys it, too."""

    clip_skip: int = 1
    skip_sdxl: bool = False


@dataclass(frozen=True)
class Replacement:
    """Vectors that stand where token embeddings would: a textual inversion at one place.

    row: which row of the tokens. position: of the first token replaced, 0 to 76. vectors: (n, D) of the encoder's
    width; what would lie beyond the row's end is left out.
    """

    row: int
    position: int
    vectors: Tensor


@dataclass(frozen=True)
class Encoded:
    """What an encoder makes of N rows. vectors: (N, T, D) fp32. pooled: (N, P) fp32, one vector a row, or None."""

    vectors: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True)
class PictureFacts:
    """What a network may be told about the picture beside the text.

    width, height: pixels. crop_top, crop_left: of a larger picture that it is cut from.
    aesthetic_score: 0 to 10. without_text: it is a negative prompt that says nothing.
    """

    width: int
    height: int
    crop_top: int = 0
    crop_left: int = 0
    aesthetic_score: float = 6.0
    without_text: bool = False


@dataclass(frozen=True)
class ClipEncoder:
    """One CLIP text encoder and which of its layers the family reads.

    name: "clip_l", "clip_h" or "clip_g", as embedding files call them.
    module: transformers' CLIPTextModel or CLIPTextModelWithProjection.
    open_clip: tokens come from OpenCLIP's tokenizer, which cleans and pads otherwise.
    layer: 1 reads the last layer, 2 the one before. normed: the final norm follows.
    skips: when the user's clip skip replaces `layer`.
    pools: it also gives one vector a row, projected if the module can.
    """

    name: str
    module: Any
    open_clip: bool = False
    layer: int = 1
    normed: bool = True
    skips: Literal["always", "when asked", "never"] = "always"
    pools: bool = False

    @property
    def core(self) -> Any:
        """The CLIPTextModel inside."""
        return getattr(self.module, "text_model", self.module)

    @property
    def width(self) -> int:
        """Channels of a vector."""
        width: int = self.module.config.hidden_size
        return width

    def encode(
        self, tokens: Tensor, choice: LayerChoice = LayerChoice(), replaced: Sequence[Replacement] = ()
    ) -> Encoded:
        """tokens: (N, T) integers on any device. replaced: vectors in place of some token embeddings."""
        with torch.inference_mode():
            return self.compute(tokens, choice, replaced)

    def compute(
        self, tokens: Tensor, choice: LayerChoice = LayerChoice(), replaced: Sequence[Replacement] = ()
    ) -> Encoded:
        """As `encode`, for training: gradients are recorded where the weights or the replacements ask for them."""
        layer = self._layer(choice)
        with _embedded(self.core.embeddings.token_embedding, replaced):
            tokens = tokens.to(self.module.device)
            output = self.module(tokens, output_hidden_states=layer > 1 or not self.normed)
        pooled = getattr(output, "text_embeds", None) if self.pools else None
        if self.pools and pooled is None:
            pooled = output.pooler_output
        return Encoded(self._vectors(output, layer).float(), None if pooled is None else pooled.float())

    def _layer(self, choice: LayerChoice) -> int:
        obeys = self.skips == "always" or (self.skips == "when asked" and choice.skip_sdxl)
        return min(choice.clip_skip, self.module.config.num_hidden_layers) if obeys else self.layer

    def _vectors(self, output: Any, layer: int) -> Tensor:
        if layer <= 1 and self.normed:
            last: Tensor = output.last_hidden_state
            return last
        hidden: Tensor = output.hidden_states[-layer]
        return self.core.final_layer_norm(hidden) if self.normed else hidden


@contextmanager
def _embedded(embedding: torch.nn.Module, replaced: Sequence[Replacement]) -> Iterator[None]:
    """While inside, `embedding` gives the replacements' vectors at their places."""
    if not replaced:
        yield
        return

    def put(module: torch.nn.Module, arguments: Any, embedded: Tensor) -> Tensor:
        embedded = embedded.clone()
        for item in replaced:
            count = min(len(item.vectors), embedded.shape[1] - item.position)
            vectors = item.vectors[:count].to(embedded.device, embedded.dtype)
            embedded[item.row, item.position : item.position + count] = vectors
        return embedded

    handle = embedding.register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()
