"""Captions into what the network is conditioned on, with gradients where the text encoder learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from webui.core.training_data import Item
from webui.diffusion.denoiser import Cond
from webui.models.families.base import LoadedModel
from webui.models.text_encoders import ClipEncoder, Encoded, LayerChoice, PictureFacts, Replacement
from webui.prompts.chunks import EmbeddingNames, chunk
from webui.prompts.tokenizer import ClipTokenizer, Tokenizer

WINDOW = 75
MOST_KEPT = 1000
"""Captions whose vectors are remembered: of SD 1.x, 230 MB."""


@dataclass
class CaptionEncoder:
    """Encodes captions as kohya's trainers do: no weights in brackets, windows of 75 tokens stitched together.

    clip_skip: 1 is the last layer. longest: tokens of a caption, 75, 150 or 225. keep: remember each caption's vectors,
    which is right only while the text encoder stays as it is; of `most` captions.
    """

    model: LoadedModel
    clip_skip: int = 1
    longest: int = 75
    keep: bool = False
    most: int = MOST_KEPT
    _kept: dict[str, list[Encoded]] = field(default_factory=dict)

    def conds(self, items: Sequence[Item]) -> Cond:
        """One row an item."""
        rows = [self._encoded(item.caption) for item in items]
        pairs = [self.model.conditioning(row, facts_of(item)) for row, item in zip(rows, items, strict=True)]
        pooled = [vector for _, vector in pairs if vector is not None]
        return Cond(torch.cat([context for context, _ in pairs]), pooled=torch.cat(pooled) if pooled else None)

    def forget(self) -> None:
        """The text encoder has changed."""
        self._kept.clear()

    def _encoded(self, caption: str) -> list[Encoded]:
        if caption in self._kept:
            return self._kept[caption]
        encoded = [self._encode(encoder, caption) for encoder in self.model.text_encoders]
        if self.keep and len(self._kept) < self.most:
            self._kept[caption] = [_detached(part) for part in encoded]
            return self._kept[caption]
        return encoded

    def _encode(self, encoder: ClipEncoder, caption: str) -> Encoded:
        windows = torch.tensor(token_windows(ClipTokenizer(open_clip=encoder.open_clip), caption, self.longest))
        encoded = encoder.compute(windows, LayerChoice(self.clip_skip))
        return Encoded(stitched(encoded.vectors), None if encoded.pooled is None else encoded.pooled[:1])


def token_windows(tokenizer: Tokenizer, caption: str, longest: int) -> list[list[int]]:
    """Rows of 77 ids for a caption of at most `longest` tokens; what is longer is cut off.

    Where the end token pads (SD 1.x), every window is start, 75 ids, end. Elsewhere (OpenCLIP) a window that ends in a
    word gets an end token, and one with no words is start, end, padding.
    Source: kohya-ss/sd-scripts, the tokenisation of long captions.
    """
    start, end, pad = tokenizer.start, tokenizer.end, tokenizer.pad
    ids = tokenizer.encode(caption)[:longest] + [end]
    ids += [pad] * (longest + 1 - len(ids))
    rows = []
    for first in range(0, longest, WINDOW):
        row = [start, *ids[first : first + WINDOW]]
        if pad == end or row[-1] not in (end, pad):
            row.append(end)
        else:
            row.append(ids[-1] if first + WINDOW == longest else pad)
        if row[1] == pad:
            row[1] = end
        rows.append(row)
    return rows


def stitched(vectors: Tensor) -> Tensor:
    """(windows, 77, D) -> (1, 75 * windows + 2, D): the first start, what is within each window, the last end."""
    inner = vectors[:, 1:-1].reshape(1, -1, vectors.shape[-1])
    return torch.cat([vectors[:1, :1], inner, vectors[-1:, -1:]], dim=1)


def facts_of(item: Item) -> PictureFacts:
    """What SDXL is told of the picture: its file's size and where it was cut."""
    width, height = item.original if all(item.original) else item.size
    left, top = item.crop
    return PictureFacts(width, height, top, left)


@dataclass
class PromptEncoder:
    """Encodes prompts as they are when pictures are made (weights in brackets, whole chunks), with one embedding.

    name, vectors: of the embedding that learns, "" for none. Its name stands in prompts.
    """

    model: LoadedModel
    clip_skip: int = 1
    name: str = ""
    vectors: Tensor | None = None

    def conds(self, prompts: Sequence[str]) -> Cond:
        (encoder,) = self.model.text_encoders
        tokenizer = ClipTokenizer(open_clip=encoder.open_clip)
        count = 0 if self.vectors is None else len(self.vectors)
        names = EmbeddingNames({self.name: count}, tokenizer) if count else None
        rows = [chunk(prompt, tokenizer, embeddings=names).chunks for prompt in prompts]
        contexts = []
        for chunks in rows:
            tokens = torch.tensor([part.tokens for part in chunks])
            replaced = [
                Replacement(row, fix.offset + 1, self.vectors)
                for row, part in enumerate(chunks)
                for fix in part.fixes
                if self.vectors is not None
            ]
            vectors = encoder.compute(tokens, LayerChoice(self.clip_skip), replaced).vectors
            weights = torch.tensor([part.multipliers for part in chunks], device=vectors.device)
            mean = vectors.mean()
            weighted = vectors * weights.unsqueeze(-1)
            if (weights != 1).any():
                weighted = weighted * (mean / weighted.mean())
            contexts.append(weighted.reshape(1, -1, weighted.shape[-1]))
        longest = max(context.shape[1] for context in contexts)
        if any(context.shape[1] < longest for context in contexts):
            contexts = [_lengthened(context, longest, self) for context in contexts]
        return Cond(torch.cat(contexts))


def _lengthened(context: Tensor, length: int, encoder: PromptEncoder) -> Tensor:
    """The context with chunks of the empty prompt behind it."""
    missing = (length - context.shape[1]) // 77
    empty = PromptEncoder(encoder.model, encoder.clip_skip).conds([""]).context if missing else context[:, :0]
    return torch.cat([context, *[empty] * missing], dim=1)


def _detached(encoded: Encoded) -> Encoded:
    pooled = None if encoded.pooled is None else encoded.pooled.detach()
    return Encoded(encoded.vectors.detach(), pooled)
