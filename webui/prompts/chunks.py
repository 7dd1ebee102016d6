"""Text -> chunks of 75 tokens with a multiplier each: what a text encoder is given.

A chunk that is full breaks after its last comma if that is near (`comma_backtrack`), so that a phrase
stays together. BREAK fills the chunk up. Names of textual inversions take as many places as they have vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from webui.core.errors import InvalidRequest, nearest
from webui.prompts.attention import Weighted, parse_attention
from webui.prompts.comments import strip_comments
from webui.prompts.composition import split_composition
from webui.prompts.networks import cut_networks
from webui.prompts.schedule import parse_schedule
from webui.prompts.styles import merge_style
from webui.prompts.tokenizer import Tokenizer, bracket_weights

CHUNK = 75
MAX_CHUNKS = 1000
PLACEHOLDER = 0
EMPHASES = ("None", "Ignore", "Original", "No norm")


class EmbeddingMatch(NamedTuple):
    """A textual inversion whose name starts at some token.

    tokens: how many tokens the name takes. vectors: how many places it fills.
    """

    name: str
    tokens: int
    vectors: int


class EmbeddingLookup(Protocol):
    """The textual inversions that fit the loaded model."""

    def find(self, tokens: Sequence[int], position: int) -> EmbeddingMatch | None:
        """The longest name, as token ids, that stands at `position`."""


class EmbeddingNames:
    """An `EmbeddingLookup` over names and vector counts."""

    def __init__(self, vectors: Mapping[str, int], tokenizer: Tokenizer):
        """vectors: name -> number of vectors."""
        by_first: dict[int, list[tuple[list[int], str]]] = {}
        for name in vectors:
            ids = tokenizer.encode(name)
            if ids:
                by_first.setdefault(ids[0], []).append((ids, name))
        self._by_first = {first: sorted(names, key=lambda n: -len(n[0])) for first, names in by_first.items()}
        self._vectors = vectors

    def find(self, tokens: Sequence[int], position: int) -> EmbeddingMatch | None:
        for ids, name in self._by_first.get(tokens[position], ()):
            if list(tokens[position : position + len(ids)]) == ids:
                return EmbeddingMatch(name, len(ids), self._vectors[name])
        return None


def names_within(names: Iterable[str], text: str) -> list[str]:
    """Those of many embeddings' names that a text may hold, so that only these are tokenized.

    The tokenizer is blind to case and to where spaces are; names of other letters than ASCII's are always kept.
    """
    squeezed = "".join(text.lower().split())
    return [name for name in names if not name.isascii() or "".join(name.lower().split()) in squeezed]


class Fix(NamedTuple):
    """Places for the vectors of a textual inversion: rows 1 + offset up to 1 + offset + vectors of the
    chunk's token embeddings, clipped to the chunk."""

    offset: int
    name: str
    vectors: int


@dataclass(frozen=True)
class Chunk:
    """tokens: 77 ids, start and end token included. multipliers: 77 weights, 1.0 for specials and padding."""

    tokens: tuple[int, ...]
    multipliers: tuple[float, ...]
    fixes: tuple[Fix, ...] = ()


@dataclass(frozen=True)
class Chunked:
    """chunks: at least one. token_count: as the counter shows it, full chunks counting 75."""

    chunks: tuple[Chunk, ...]
    token_count: int


@dataclass(frozen=True)
class TokenCount:
    """limit: the tokens that fit into as many chunks as the prompt takes."""

    count: int
    limit: int


def empty_chunk(tokenizer: Tokenizer) -> Chunk:
    """What pads a prompt that has fewer chunks than another in the same call."""
    return _Writer(tokenizer).finish().chunks[0]


def chunk(
    text: str,
    tokenizer: Tokenizer,
    *,
    emphasis: str = "Original",
    comma_backtrack: int = 20,
    embeddings: EmbeddingLookup | None = None,
) -> Chunked:
    """Chunks of one scheduled text, tags of extra networks already cut out.

    emphasis: "None" reads no brackets at all; "Ignore" reads them and gives every token the multiplier 1;
        "Original" and "No norm", which differ only after encoding, give the weights.
    comma_backtrack: how many tokens may move to the next chunk, 0 for none.
    Raises: InvalidRequest for an unknown emphasis, brackets nested too deeply, a textual inversion of more than
        75 vectors, a text of more than 1000 chunks.
    """
    writer = _Writer(tokenizer, comma_backtrack, embeddings)
    for piece in _weigh(text, emphasis):
        if piece.is_break:
            writer.next_chunk()
        else:
            writer.write(tokenizer.encode(piece.text), 1.0 if emphasis == "Ignore" else piece.weight)
    return writer.finish()


def old_chunk(
    text: str, tokenizer: Tokenizer, *, emphasis: str = "Original", embeddings: EmbeddingLookup | None = None
) -> Chunk:
    """The one chunk that the first versions made of a text: what is longer is cut off.

    Brackets are looked for among the tokens, each multiplying all that follows; `(text:1.3)`, escapes and BREAK
    are words like others.
    """
    tokens: list[int] = []
    weights: list[float] = []
    fixes: list[Fix] = []
    weight, position, ids = 1.0, 0, tokenizer.encode(text)
    changes = {} if emphasis == "None" else bracket_weights()
    while position < len(ids):
        match = embeddings.find(ids, position) if embeddings else None
        if ids[position] in changes:
            weight *= changes[ids[position]]
        else:
            if match:
                fixes.append(Fix(len(tokens), match.name, match.vectors))
            added = [PLACEHOLDER] * match.vectors if match else [ids[position]]
            tokens += added
            weights += [1.0 if emphasis == "Ignore" else weight] * len(added)
        position += match.tokens if match else 1
    padding = max(CHUNK - len(tokens), 0)
    return Chunk(
        (tokenizer.start, *tokens[:CHUNK], *[tokenizer.end] * padding, tokenizer.end),
        (1.0, *weights[:CHUNK], *[1.0] * padding, 1.0),
        tuple(fix for fix in fixes if fix.offset < CHUNK),
    )


def count_tokens(
    prompt: str,
    tokenizer: Tokenizer,
    *,
    styles: Sequence[str] = (),
    negative: bool = False,
    steps: int = 20,
    comments: bool = True,
    emphasis: str = "Original",
    comma_backtrack: int = 20,
    embeddings: EmbeddingLookup | None = None,
) -> TokenCount:
    """Tokens of a prompt's longest part: of every step, and of every side of AND unless it is negative.

    styles: texts of the styles to count in, in order. comments: whether "#" starts one.
    Raises: InvalidRequest as `chunk` and `parse_schedule` do.
    """
    if comments:
        prompt = strip_comments(prompt)
    for style in styles:
        prompt = merge_style(style, prompt)
    prompt = cut_networks(prompt).text
    parts = [prompt] if negative else [part.text for part in split_composition(prompt)]
    texts = {entry.text for part in parts for entry in parse_schedule(part, steps)}
    count = max(
        chunk(text, tokenizer, emphasis=emphasis, comma_backtrack=comma_backtrack, embeddings=embeddings).token_count
        for text in texts
    )
    return TokenCount(count, -(-max(count, 1) // CHUNK) * CHUNK)


def _weigh(text: str, emphasis: str) -> list[Weighted]:
    if emphasis not in EMPHASES:
        raise InvalidRequest(f'There is no emphasis mode "{emphasis}"{nearest(emphasis, EMPHASES)}.')
    return [Weighted(text, 1.0)] if emphasis == "None" else parse_attention(text)


class _Writer:
    """Fills chunks token by token."""

    def __init__(self, tokenizer: Tokenizer, comma_backtrack: int = 0, embeddings: EmbeddingLookup | None = None):
        self.tokenizer = tokenizer
        self.comma_backtrack = comma_backtrack
        self.embeddings = embeddings
        self.chunks: list[Chunk] = []
        self._start_chunk([], [])

    def _start_chunk(self, tokens: list[int], weights: list[float]) -> None:
        self.tokens, self.weights = tokens, weights
        self.fixes: list[Fix] = []
        self.last_comma: int | None = None

    def write(self, tokens: Sequence[int], weight: float) -> None:
        """Append a piece of one weight."""
        position = 0
        while position < len(tokens):
            if tokens[position] == self.tokenizer.comma:
                self.last_comma = len(self.tokens)
            elif len(self.tokens) == CHUNK:
                self._move_phrase_on()
            if len(self.tokens) == CHUNK:
                self.next_chunk()
            match = self.embeddings.find(tokens, position) if self.embeddings else None
            if match:
                self._place(match, weight)
                position += match.tokens
            else:
                self.tokens.append(tokens[position])
                self.weights.append(weight)
                position += 1

    def _move_phrase_on(self) -> None:
        """Take what follows the last comma along to the next chunk, if that is few tokens.

        Fixes stay behind, as in the original program: the vectors of a moved textual inversion then
        replace padding of the chunk it left, and its placeholders stand for themselves.
        """
        if self.last_comma is None or CHUNK - self.last_comma > self.comma_backtrack:
            return
        tokens, weights = self.tokens[self.last_comma + 1 :], self.weights[self.last_comma + 1 :]
        del self.tokens[self.last_comma + 1 :], self.weights[self.last_comma + 1 :]
        self._close_chunk()
        self._start_chunk(tokens, weights)

    def _place(self, match: EmbeddingMatch, weight: float) -> None:
        if match.vectors > CHUNK:
            raise InvalidRequest(
                f'The embedding "{match.name}" has {match.vectors} vectors; at most {CHUNK} fit into a prompt.'
            )
        if len(self.tokens) + match.vectors > CHUNK:
            self.next_chunk()
        self.fixes.append(Fix(len(self.tokens), match.name, match.vectors))
        self.tokens += [PLACEHOLDER] * match.vectors
        self.weights += [weight] * match.vectors

    def next_chunk(self) -> None:
        self._close_chunk()
        self._start_chunk([], [])

    def _close_chunk(self) -> None:
        start, end, pad = self.tokenizer.start, self.tokenizer.end, self.tokenizer.pad
        if len(self.chunks) == MAX_CHUNKS:
            raise InvalidRequest(f"The prompt is longer than {MAX_CHUNKS} chunks of {CHUNK} tokens; shorten it.")
        padding = CHUNK - len(self.tokens)
        ids = [start, *self.tokens, *[end] * padding, end]
        first_end = ids.index(end)
        ids[first_end + 1 :] = [pad if pad != end else token for token in ids[first_end + 1 :]]
        self.chunks.append(Chunk(tuple(ids), (1.0, *self.weights, *[1.0] * padding, 1.0), tuple(self.fixes)))

    def finish(self) -> Chunked:
        count = len(self.chunks) * CHUNK + len(self.tokens)
        if self.tokens or not self.chunks:
            self._close_chunk()
        return Chunked(tuple(self.chunks), count)
