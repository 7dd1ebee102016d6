import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import cpu_seconds
from webui.core.errors import InvalidRequest
from webui.prompts.chunks import (
    EmbeddingNames,
    Fix,
    TokenCount,
    chunk,
    count_tokens,
    empty_chunk,
    names_within,
    old_chunk,
)
from webui.prompts.tokenizer import END, START, ClipTokenizer

RECORDED = json.loads((Path(__file__).parents[1] / "fixtures/prompts/prompt-tokens.json").read_text("utf-8"))
CLIP = ClipTokenizer()
CAT, COMMA = 2368, 267
EMBEDDINGS = EmbeddingNames({"rembst": 3, "rembpt": 2}, CLIP)


@pytest.mark.parametrize("prompt", RECORDED, ids=lambda prompt: prompt[:30])
def test_recorded_tokens(prompt):
    recorded = RECORDED[prompt]
    chunked = chunk(prompt, CLIP, embeddings=EMBEDDINGS)
    assert chunked.token_count == recorded["token_count"]
    assert [
        {
            "tokens": list(one.tokens),
            "multipliers": list(one.multipliers),
            "fixes": [[fix.offset, fix.name] for fix in one.fixes],
        }
        for one in chunked.chunks
    ] == recorded["chunks"]


@pytest.mark.parametrize("prompt", [p for p in RECORDED if "[" not in p and "AND" not in p], ids=lambda p: p[:30])
def test_recorded_counters(prompt):
    count = count_tokens(prompt, CLIP, embeddings=EMBEDDINGS)
    assert [count.count, count.limit] == RECORDED[prompt]["ui_counter"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["cat", ",", "rembst", "BREAK"]), st.integers(1, 100)).map(
            lambda p: (f"{p[0]} ") * p[1]
        ),
        max_size=4,
    ).map("".join),
    st.integers(0, 75),
)
def test_chunks_are_whole_and_hold_every_token(prompt, comma_backtrack):
    chunked = chunk(prompt, CLIP, comma_backtrack=comma_backtrack, embeddings=EMBEDDINGS)
    assert all(len(one.tokens) == len(one.multipliers) == 77 for one in chunked.chunks)
    assert all((one.tokens[0], one.tokens[76]) == (START, END) for one in chunked.chunks)
    inside = [token for one in chunked.chunks for token in one.tokens[1:76] if token != END]
    assert inside.count(CAT) == prompt.count("cat")
    assert inside.count(COMMA) == prompt.count(",")
    assert inside.count(0) == 3 * prompt.count("rembst") == 3 * sum(len(one.fixes) for one in chunked.chunks)
    assert 75 * (len(chunked.chunks) - 1) <= chunked.token_count <= 75 * len(chunked.chunks)


def test_backtrack_keeps_a_phrase_together():
    prompt = "cat " * 60 + ", " + "cat " * 20
    ends = [chunk(prompt, CLIP, comma_backtrack=n).chunks[0].tokens.index(END) - 1 for n in (0, 14, 15, 20)]
    assert ends == [75, 75, 61, 61]


def test_emphasis_modes():
    weights = {
        mode: chunk("(cat)", CLIP, emphasis=mode).chunks[0] for mode in ("Original", "No norm", "Ignore", "None")
    }
    assert weights["Original"] == weights["No norm"]
    assert weights["Original"].multipliers[:3] == (1.0, 1.1, 1.0)
    assert weights["Ignore"].tokens == weights["Original"].tokens
    assert set(weights["Ignore"].multipliers) == set(weights["None"].multipliers) == {1.0}
    assert len(CLIP.encode("(cat)")) == 3
    assert chunk("(cat)", CLIP, emphasis="None").token_count == 3
    with pytest.raises(InvalidRequest, match='closest is "Original"'):
        chunk("cat", CLIP, emphasis="Orginal")


def test_open_clip_pads_with_zeros_after_the_first_end():
    tokens = chunk("a cat", ClipTokenizer(open_clip=True)).chunks[0].tokens
    assert tokens == (START, 320, CAT, END, *[0] * 73)
    assert empty_chunk(CLIP).tokens == (START, *[END] * 76)


def test_longest_embedding_name_wins_and_vectors_stay_together():
    names = EmbeddingNames({"my cat": 2, "my cat face": 74, "cat": 1}, CLIP)
    fixes = [one.fixes for one in chunk("a My Cat Face my cat", CLIP, embeddings=names).chunks]
    assert fixes == [(Fix(1, "my cat face", 74),), (Fix(0, "my cat", 2),)]
    with pytest.raises(InvalidRequest, match='"cat" has 76 vectors'):
        chunk("cat", CLIP, embeddings=EmbeddingNames({"cat": 76}, CLIP))


def test_count_takes_the_longest_part_without_tags_and_comments():
    assert count_tokens("[a:a b c:5] <lora:x:1># d d d d", CLIP) == TokenCount(3, 75)
    assert count_tokens("a AND b c d", CLIP) == TokenCount(3, 75)
    assert count_tokens("a AND b c d", CLIP, negative=True) == TokenCount(5, 75)
    assert count_tokens("a", CLIP, styles=["x {prompt} y", "z"]) == TokenCount(5, 75)
    assert count_tokens("cat " * 76, CLIP) == TokenCount(76, 150)


@pytest.mark.parametrize("prompt", ["cat, " * 20_000, "(cat:1.2) " * 10_000, "BREAK " * 900], ids=lambda p: p[:8])
def test_long_prompts_take_linear_time(prompt):
    chunk("warm up", CLIP)
    assert cpu_seconds(lambda: chunk(prompt, CLIP), enough=2) < 2  # seen: 0.15


def test_a_prompt_without_end_is_refused():
    with pytest.raises(InvalidRequest, match="longer than 1000 chunks"):
        chunk("BREAK " * 16_000, CLIP)


@pytest.mark.parametrize(
    ("text", "words", "weights"),
    [
        ("a ((cat)) on", "a cat on", [1, 1.21, 1]),
        ("a [cat on", "a cat on", [1, 1 / 1.1, 1 / 1.1]),
        ("(a) (cat)", "a cat", [1.1, 1.1]),
        ("cat () on", "cat () on", [1, 1, 1]),
    ],
)
def test_old_emphasis_looks_for_brackets_among_the_tokens(text, words, weights):
    old = old_chunk(text, CLIP)
    count = len(weights)
    assert old.tokens == (START, *CLIP.encode(words), *[END] * (76 - count))
    assert old.multipliers == pytest.approx((1, *weights, *[1] * (76 - count)))
    assert set(old_chunk(text, CLIP, emphasis="Ignore").multipliers) == {1}


def test_old_emphasis_keeps_one_chunk():
    old = old_chunk("rembst " + "cat " * 100 + "rembst", CLIP, embeddings=EMBEDDINGS)
    assert (len(old.tokens), len(old.multipliers), old.fixes) == (77, 77, (Fix(0, "rembst", 3),))
    assert old.tokens[-2:] == (CAT, END)
    assert CLIP.encode("((") == [t for t in old_chunk("((", CLIP, emphasis="None").tokens if t not in (START, END)]
    assert old_chunk("", CLIP) == empty_chunk(CLIP)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a CAT-style house", ["cat-style", "\u732b"]),
        ("a cat - style house", ["cat-style", "\u732b"]),
        ("by  greg  rut", ["Greg Rut", "\u732b"]),
        ("a dog", ["\u732b"]),
    ],
)
def test_only_embeddings_that_a_text_can_name_are_looked_at(text: str, found: list[str]) -> None:
    assert names_within(["cat-style", "Greg Rut", "unused", "\u732b"], text) == found
