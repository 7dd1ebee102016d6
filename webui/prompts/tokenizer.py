"""CLIP's byte-pair tokenizer, on the `tokenizers` library.

The vocabulary is derived from the merges as CLIP derives it: 256 bytes written as printable
characters, the same with the end-of-word mark, one token a merge, two specials; 49408 in all.
Source of vocabulary and rules: openai/CLIP (MIT licence), simple_tokenizer.py.
"""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import tokenizers

MERGES = Path(__file__).parent / "data" / "clip-merges.txt.gz"
START, END, COMMA = 49406, 49407, 267

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_NEEDS_NO_FIXING = re.compile(r"[\t\n\v\f\r\x20-\x25\x27-\x7e]*")


class Tokenizer(Protocol):
    """What chunking needs of a tokenizer.

    pad: the id that fills a chunk after its first end token.
    """

    start: int
    end: int
    pad: int
    comma: int

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without specials and without a length limit."""


class ClipTokenizer:
    """CLIP-L's tokenizer (SD 1.x, first encoder of SDXL), or OpenCLIP's, which cleans and pads otherwise.

    Cheap to make: the vocabulary is read at the first `encode`, once for all instances.
    """

    start, end, comma = START, END, COMMA

    def __init__(self, *, open_clip: bool = False):
        self.pad = 0 if open_clip else END
        self._clean: Callable[[str], str] = clean_open_clip if open_clip else clean_clip

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without specials and without a length limit."""
        return list(_byte_pairs().encode(self._clean(text), add_special_tokens=False).ids)


def clean_clip(text: str) -> str:
    """Mended Unicode (as `ftfy.fix_text`), single spaces, lower case."""
    return " ".join(_mend(text).split()).lower()


def clean_open_clip(text: str) -> str:
    """As `clean_clip`, with HTML entities decoded twice before the case is lowered."""
    return " ".join(html.unescape(html.unescape(_mend(text))).split()).lower()


def _mend(text: str) -> str:
    """ftfy's repairs; ASCII text without entities or control characters passes without importing it."""
    if _NEEDS_NO_FIXING.fullmatch(text):
        return text
    import ftfy

    return ftfy.fix_text(text)


def clip_vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Token -> id. merges: the pairs in order of rank."""
    letters = _byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges)]
    return {token: number for number, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}


def read_merges() -> list[tuple[str, str]]:
    """The 48894 pairs of CLIP's byte-pair encoding, by rank."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    return [(left, right) for left, _, right in (line.partition(" ") for line in lines[1:])]


@cache
def bracket_weights() -> Mapping[int, float]:
    """Token -> what its brackets multiply by, for the tokens whose brackets don't cancel out.

    `(` and `]` count 1.1, `[` and `)` 1 / 1.1; emphasis was read from tokens before it was read from text.
    """
    weights = {
        number: 1.1 ** (sum(map(token.count, "(]")) - sum(map(token.count, "[)")))
        for token, number in clip_vocabulary(read_merges()).items()
    }
    return MappingProxyType({number: weight for number, weight in weights.items() if weight != 1})


def _byte_letters() -> list[str]:
    """The 256 bytes as printable characters, in vocabulary order: first those that print as themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(code) for code in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


@cache
def _byte_pairs() -> tokenizers.Tokenizer:
    from tokenizers import AddedToken, Regex, models, pre_tokenizers
    from tokenizers import Tokenizer as BytePairs

    merges = read_merges()
    model = models.BPE(clip_vocabulary(merges), merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    pairs = BytePairs(model)
    pairs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pairs.add_special_tokens([AddedToken(t, normalized=False) for t in ("<|startoftext|>", "<|endoftext|>")])
    return pairs
