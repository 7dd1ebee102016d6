"""Prompts into what the network is conditioned on: chunks of tokens, weights, prompt editing, AND."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from webui.core.settings import Settings
from webui.diffusion.guidance import PromptConds, Schedule, TimedCond, WeightedSchedule
from webui.models.text_encoders import ClipEncoder, Encoded, LayerChoice, PictureFacts, Replacement
from webui.prompts.chunks import Chunk, EmbeddingLookup, chunk, empty_chunk, old_chunk
from webui.prompts.composition import split_composition
from webui.prompts.schedule import parse_schedule
from webui.prompts.tokenizer import ClipTokenizer, Tokenizer

if TYPE_CHECKING:
    from webui.models.families.base import LoadedModel


class Embeddings(EmbeddingLookup, Protocol):
    """The textual inversions that fit the loaded model, with their vectors."""

    def vectors(self, name: str, encoder: str) -> Tensor | None:
        """(n, D) of the embedding for one text encoder ("clip_l", "clip_h", "clip_g"), None when it has none."""


@dataclass(frozen=True)
class TextOptions:
    """What the settings say about reading prompts.

    layers: clip skip. emphasis: "Original", "No norm", "Ignore" or "None". comma_backtrack: tokens, 0 for off.
    old_schedule: prompt editing as in versions before 1.6. old_emphasis: brackets as in the first versions; SD 1 only.
    crop_top, crop_left, good_score, bad_score: what SDXL is told of the picture; the scores are the positive and
    the negative prompt's.
    """

    layers: LayerChoice
    emphasis: str
    comma_backtrack: int
    old_schedule: bool
    old_emphasis: bool
    crop_top: int
    crop_left: int
    good_score: float
    bad_score: float

    @classmethod
    def of(cls, settings: Settings) -> TextOptions:
        return cls(
            layers=LayerChoice(settings["CLIP_stop_at_last_layers"], settings["sdxl_clip_l_skip"]),
            emphasis=settings["emphasis"],
            comma_backtrack=settings["comma_padding_backtrack"],
            old_schedule=settings["use_old_scheduling"],
            old_emphasis=settings["use_old_emphasis_implementation"],
            crop_top=settings["sdxl_crop_top"],
            crop_left=settings["sdxl_crop_left"],
            good_score=settings["sdxl_refiner_high_aesthetic_score"],
            bad_score=settings["sdxl_refiner_low_aesthetic_score"],
        )

    def facts(self, width: int, height: int, *, negative: bool, without_text: bool) -> PictureFacts:
        score = self.bad_score if negative else self.good_score
        return PictureFacts(width, height, self.crop_top, self.crop_left, score, without_text)


@dataclass(frozen=True)
class StepCount:
    """The denoiser calls of a pass; in the second pass, of the first one too, which prompt editing needs."""

    calls: int
    hires_calls: int | None = None


@dataclass
class TextEncoding:
    """Encodes prompts with one model for pictures of one size; equal prompts are encoded once.

    tokenizer: CLIP's; encoders of OpenCLIP bring their own. size: (width, height) in pixels.
    embeddings: textual inversions that prompts may name.
    """

    model: LoadedModel
    tokenizer: Tokenizer
    options: TextOptions
    size: tuple[int, int]
    embeddings: Embeddings | None = None
    _known: dict[tuple[str, StepCount, bool], Schedule] = field(default_factory=dict)
    _named: dict[tuple[str, bool], tuple[str, ...]] = field(default_factory=dict)

    def conds(self, prompts: Sequence[str], negative_prompts: Sequence[str], steps: StepCount) -> PromptConds:
        """The conditioning of a batch; one prompt and one negative prompt an image."""
        return PromptConds(
            positive=tuple(
                tuple(
                    WeightedSchedule(weight, self.schedule(text, steps)) for text, weight in split_composition(prompt)
                )
                for prompt in prompts
            ),
            negative=tuple(self.schedule(prompt, steps, negative=True) for prompt in negative_prompts),
        )

    def schedule(self, prompt: str, steps: StepCount, *, negative: bool = False) -> Schedule:
        """What the network is conditioned on over the calls of a pass."""
        key = (prompt, steps, negative)
        if key not in self._known:
            parts = parse_schedule(prompt, steps.calls, hires_steps=steps.hires_calls, old=self.options.old_schedule)
            texts = [part.text for part in parts]
            self._named[prompt, negative] = self._names_in(texts)
            context, pooled = self.encode(texts, negative=negative)
            self._known[key] = tuple(
                TimedCond(part.end_step, context[index], None if pooled is None else pooled[index])
                for index, part in enumerate(parts)
            )
        return self._known[key]

    def embeddings_in(self, prompts: Sequence[str], negative_prompts: Sequence[str]) -> tuple[str, ...]:
        """Names of the textual inversions in prompts that were encoded, as A1111 lists them: the last encoded first.

        The negative prompts come before the others there, and each text encoder counts by itself.
        """
        texts = [(prompt, True) for prompt in dict.fromkeys(negative_prompts)]
        texts += [(part, False) for prompt in dict.fromkeys(prompts) for part, _ in split_composition(prompt)]
        names = [self._named[key] for key in dict.fromkeys(texts) for _ in self.model.text_encoders]
        return tuple(name for group in reversed(names) for name in group)

    def _names_in(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The textual inversions that the texts name, in the order of their chunks."""
        if self.embeddings is None:
            return ()
        columns = self._columns(self.model.text_encoders[0], texts)
        return tuple(dict.fromkeys(fix.name for row in columns for item in row for fix in item.fixes))

    def empty(self) -> Tensor:
        """(77, D) vectors of the empty prompt."""
        return self.encode([""])[0][0]

    def encode(self, texts: Sequence[str], *, negative: bool = False) -> tuple[Tensor, Tensor | None]:
        """(N, T, D) float32, all texts brought to the same number of chunks, and (N, P) for models that take it.

        The mean that "Original" emphasis keeps is that of all texts' chunks of the same number together.
        """
        encoders = self.model.text_encoders
        columns = [self._columns(encoder, texts) for encoder in encoders]
        count = max(len(rows) for rows in columns)
        encoded = []
        for encoder, rows in zip(encoders, columns, strict=True):
            filler = empty_chunk(self._tokenizer(encoder))
            rows += [[filler] * len(texts) for _ in range(count - len(rows))]
            parts = [self._encode_chunks(encoder, row) for row in rows]
            encoded.append(replace(parts[0], vectors=torch.cat([part.vectors for part in parts], dim=1)))
        facts = self.options.facts(
            *self.size, negative=negative, without_text=negative and not any(text for text in texts)
        )
        return self.model.conditioning(encoded, facts)

    def _tokenizer(self, encoder: ClipEncoder) -> Tokenizer:
        return ClipTokenizer(open_clip=True) if encoder.open_clip else self.tokenizer

    def _columns(self, encoder: ClipEncoder, texts: Sequence[str]) -> list[list[Chunk]]:
        """The texts' first chunks, their second ones, ...; what is too short gets empty chunks."""
        tokenizer = self._tokenizer(encoder)
        if self.options.old_emphasis and not encoder.open_clip and len(self.model.text_encoders) == 1:
            emphasis = self.options.emphasis
            return [[old_chunk(text, tokenizer, emphasis=emphasis, embeddings=self.embeddings) for text in texts]]
        chunked = [
            chunk(
                text,
                tokenizer,
                emphasis=self.options.emphasis,
                comma_backtrack=self.options.comma_backtrack,
                embeddings=self.embeddings,
            ).chunks
            for text in texts
        ]
        filler = empty_chunk(tokenizer)
        return [
            [chunks[index] if index < len(chunks) else filler for chunks in chunked]
            for index in range(max(len(chunks) for chunks in chunked))
        ]

    def _encode_chunks(self, encoder: ClipEncoder, chunks: Sequence[Chunk]) -> Encoded:
        """Vectors (N, 77, D) of N chunks, weighted; what is pooled isn't."""
        tokens = torch.tensor([item.tokens for item in chunks])
        encoded = encoder.encode(tokens, self.options.layers, self._replaced(encoder, chunks))
        if self.options.emphasis not in ("Original", "No norm"):
            return encoded
        multipliers = torch.tensor([item.multipliers for item in chunks], device=encoded.vectors.device)
        weighted = emphasized(encoded.vectors, multipliers, keep_mean=self.options.emphasis == "Original")
        return replace(encoded, vectors=weighted)

    def _replaced(self, encoder: ClipEncoder, chunks: Sequence[Chunk]) -> list[Replacement]:
        """Where the chunks name textual inversions, and with what."""
        if self.embeddings is None:
            return []
        places = [(row, fix) for row, item in enumerate(chunks) for fix in item.fixes]
        found = [(row, fix, self.embeddings.vectors(fix.name, encoder.name)) for row, fix in places]
        return [Replacement(row, fix.offset + 1, vectors) for row, fix, vectors in found if vectors is not None]


def emphasized(vectors: Tensor, multipliers: Tensor, *, keep_mean: bool) -> Tensor:
    """(N, T, D) times (N, T) weights; with `keep_mean` scaled back to the mean it had."""
    weighted = vectors * multipliers.unsqueeze(-1)
    if not keep_mean:
        return weighted
    mean = weighted.mean()
    return weighted * (vectors.mean() / mean) if mean != 0 else weighted  # a norm without bias leaves exactly 0
