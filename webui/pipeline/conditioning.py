"""Prompts into what the network is conditioned on: chunks of tokens, weights, prompt editing, AND."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from webui.core.settings import Settings
from webui.diffusion.guidance import PromptConds, Schedule, TimedCond, WeightedSchedule
from webui.prompts.chunks import Chunk, chunk, empty_chunk
from webui.prompts.composition import split_composition
from webui.prompts.schedule import parse_schedule
from webui.prompts.tokenizer import Tokenizer

if TYPE_CHECKING:
    from webui.models.families.base import LoadedModel


@dataclass(frozen=True)
class TextOptions:
    """What the settings say about reading prompts.

    clip_skip: 1 takes the text encoder's last layer, 2 the one before, ...
    emphasis: "Original", "No norm", "Ignore" or "None". comma_backtrack: tokens, 0 for off.
    old_schedule: prompt editing as in versions before 1.6.
    """

    clip_skip: int
    emphasis: str
    comma_backtrack: int
    old_schedule: bool

    @classmethod
    def of(cls, settings: Settings) -> TextOptions:
        return cls(
            clip_skip=settings["CLIP_stop_at_last_layers"],
            emphasis=settings["emphasis"],
            comma_backtrack=settings["comma_padding_backtrack"],
            old_schedule=settings["use_old_scheduling"],
        )


@dataclass(frozen=True)
class StepCount:
    """The denoiser calls of a pass; in the second pass, of the first one too, which prompt editing needs."""

    calls: int
    hires_calls: int | None = None


@dataclass
class TextEncoding:
    """Encodes prompts with one model; equal prompts are encoded once."""

    model: LoadedModel
    tokenizer: Tokenizer
    options: TextOptions
    _known: dict[tuple[str, StepCount], Schedule] = field(default_factory=dict)

    def conds(self, prompts: Sequence[str], negative_prompts: Sequence[str], steps: StepCount) -> PromptConds:
        """The conditioning of a batch; one prompt and one negative prompt an image."""
        return PromptConds(
            positive=tuple(
                tuple(
                    WeightedSchedule(weight, self.schedule(text, steps)) for text, weight in split_composition(prompt)
                )
                for prompt in prompts
            ),
            negative=tuple(self.schedule(prompt, steps) for prompt in negative_prompts),
        )

    def schedule(self, prompt: str, steps: StepCount) -> Schedule:
        """The text vectors of a prompt over the calls of a pass."""
        key = (prompt, steps)
        if key not in self._known:
            parts = parse_schedule(prompt, steps.calls, hires_steps=steps.hires_calls, old=self.options.old_schedule)
            vectors = self.encode([part.text for part in parts])
            self._known[key] = tuple(TimedCond(part.end_step, vectors[index]) for index, part in enumerate(parts))
        return self._known[key]

    def empty(self) -> Tensor:
        """(77, D) vectors of the empty prompt."""
        return self.encode([""])[0]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, 77 * chunks, D) float32; all texts are brought to the same number of chunks.

        The mean that "Original" emphasis keeps is that of all texts' chunks of the same number together.
        """
        chunked = [
            chunk(
                text,
                self.tokenizer,
                emphasis=self.options.emphasis,
                comma_backtrack=self.options.comma_backtrack,
            ).chunks
            for text in texts
        ]
        count = max(len(chunks) for chunks in chunked)
        filler = empty_chunk(self.tokenizer)
        columns = [[chunks[index] if index < len(chunks) else filler for chunks in chunked] for index in range(count)]
        return torch.cat([self._encode_chunks(column) for column in columns], dim=1)

    def _encode_chunks(self, chunks: Sequence[Chunk]) -> Tensor:
        """(N, 77, D) of N chunks."""
        device = self.model.device
        tokens = torch.tensor([item.tokens for item in chunks], device=device)
        vectors = encode_tokens(self.model, tokens, self.options.clip_skip).float()
        if self.options.emphasis in ("Original", "No norm"):
            multipliers = torch.tensor([item.multipliers for item in chunks], device=device)
            vectors = emphasized(vectors, multipliers, keep_mean=self.options.emphasis == "Original")
        return vectors


def encode_tokens(model: LoadedModel, tokens: Tensor, clip_skip: int) -> Tensor:
    """(N, 77, D) output of the text encoder for (N, 77) tokens.

    With a clip skip of n > 1 the n-th layer from the end, after the final norm.
    """
    encoder = model.text_encoder
    with torch.inference_mode():
        if clip_skip <= 1:
            output: Tensor = encoder(tokens).last_hidden_state
            return output
        hidden = encoder(tokens, output_hidden_states=True).hidden_states
        chosen = hidden[-min(clip_skip, len(hidden) - 1)]
        normed: Tensor = encoder.final_layer_norm(chosen)
        return normed


def emphasized(vectors: Tensor, multipliers: Tensor, *, keep_mean: bool) -> Tensor:
    """(N, T, D) times (N, T) weights; with `keep_mean` scaled back to the mean it had."""
    weighted = vectors * multipliers.unsqueeze(-1)
    if not keep_mean:
        return weighted
    mean = weighted.mean()
    return weighted * (vectors.mean() / mean) if mean != 0 else weighted  # a norm without bias leaves exactly 0
