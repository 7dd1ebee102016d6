import subprocess
import sys
import unicodedata

import regex
from hypothesis import given
from hypothesis import strategies as st

from webui.prompts.tokenizer import END, START, ClipTokenizer, bracket_weights, clean_clip, clip_vocabulary, read_merges

MERGES = read_merges()
VOCABULARY = clip_vocabulary(MERGES)
RANKS = {pair: rank for rank, pair in enumerate(MERGES)}
LETTERS = list(VOCABULARY)[:256]
BYTES = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTES += [byte for byte in range(256) if byte not in BYTES]
LETTER_OF_BYTE = dict(zip(BYTES, LETTERS, strict=True))
ASSIGNED = st.characters(exclude_categories=["Cn", "Cs"])
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")


def merge_pair_by_pair(word: str) -> list[int]:
    """The definition: join the pair of lowest rank, until none is left that has one."""
    parts = [LETTER_OF_BYTE[byte] for byte in word.encode("utf-8")]
    parts[-1] += "</w>"
    while len(parts) > 1:
        pairs = [(RANKS.get(pair, len(RANKS)), i) for i, pair in enumerate(zip(parts, parts[1:], strict=False))]
        rank, i = min(pairs)
        if rank == len(RANKS):
            break
        parts[i : i + 2] = ["".join(parts[i : i + 2])]
    return [VOCABULARY[part] for part in parts]


@given(st.one_of(st.text(ASSIGNED, max_size=30), st.text("abcdehiorstu'., 1!é猫", max_size=60)))
def test_encode_merges_pairs_as_defined(text):
    words = [word for word in WORDS.findall(clean_clip(text)) if "<|" not in word]
    assert ClipTokenizer().encode(text) == [token for word in words for token in merge_pair_by_pair(word)]


def test_vocabulary_is_clips():
    assert len(VOCABULARY) == 49408
    assert (VOCABULARY["<|startoftext|>"], VOCABULARY["<|endoftext|>"], VOCABULARY[",</w>"]) == (START, END, 267)
    assert (VOCABULARY["a</w>"], VOCABULARY["cat</w>"]) == (320, 2368)


def test_case_space_and_specials():
    encode = ClipTokenizer().encode
    assert encode("") == encode(" \n\t ") == []
    assert encode("A  Cat\n") == encode("a cat") == [320, 2368]
    assert encode("a <|endoftext|> cat") == [320, END, 2368]


def test_unicode_is_mended_before_splitting():
    encode = ClipTokenizer().encode
    assert encode("“cat”") == encode('"cat"')
    assert encode(unicodedata.normalize("NFD", "café")) == encode("café") != encode("cafe")
    assert encode("\ud800 cat") == encode("\ufffd cat")


def test_open_clip_decodes_entities_and_pads_with_zero():
    clip, open_clip = ClipTokenizer(), ClipTokenizer(open_clip=True)
    assert (clip.pad, open_clip.pad) == (END, 0)
    assert open_clip.encode("<b> &amp;amp; c") == clip.encode("<b> & c") != clip.encode("<b> &amp;amp; c")


def test_importing_reads_no_vocabulary_and_no_heavy_library():
    code = (
        "import sys, webui.prompts.tokenizer; print([m for m in ('tokenizers', 'ftfy', 'torch') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_bracket_weights_are_those_of_tokens_with_uneven_brackets():
    weights = bracket_weights()
    assert weights[VOCABULARY["(</w>"]] == 1.1
    assert weights[VOCABULARY["))</w>"]] == 1.1**-2
    assert VOCABULARY["()</w>"] not in weights
    assert all(set("()[]") & set(token) for token, number in VOCABULARY.items() if number in weights)
