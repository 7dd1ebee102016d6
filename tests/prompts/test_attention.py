import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import ENOUGH, cpu_seconds
from webui.core.errors import InvalidRequest
from webui.prompts.attention import Weighted, parse_attention, uses_emphasis

GRAMMAR = json.loads((Path(__file__).parents[1] / "fixtures/prompts/prompt-grammar.json").read_text("utf-8"))
WORD = st.text("abc ,.é", min_size=1, max_size=5)


READ = [case for case in GRAMMAR if isinstance(case["attention"], list)]
"""Without the one at which the original program fails: see test_a_number_that_is_none_is_text."""


@pytest.mark.parametrize("case", READ, ids=lambda case: case["prompt"])
def test_recorded_weights(case):
    assert [list(piece) for piece in parse_attention(case["prompt"])] == case["attention"]


def test_a_number_that_is_none_is_text():
    assert parse_attention("(a:1.2.3) b") == [("a:1.2.3", 1.1), (" b", 1.0)]
    assert parse_attention("a:1.2.3)") == [("a:1.2.3)", 1.0)]


def test_the_example_with_everything():
    assert parse_attention("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).") == [
        ("a ", 1.0),
        ("house", 1.5730000000000004),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641000000000006),
        (".", 1.1),
    ]


def test_brackets_of_two_kinds_may_cross():
    assert parse_attention("(a[b)c]d") == [("a", 1.1), ("b", 1.1 * (1 / 1.1)), ("c", 1 / 1.1), ("d", 1.0)]


def test_break_inside_brackets_is_a_word():
    assert [piece.is_break for piece in parse_attention("a BREAK b")] == [False, True, False]
    assert parse_attention("(a BREAK b:1.2)") == [("a", 1.2), ("BREAK", -1.2), ("b", 1.2)]
    assert not any(piece.is_break for piece in parse_attention("(a BREAK b:1.2) (BREAKS) aBREAK"))


def test_uses_emphasis():
    assert uses_emphasis("a (cat)")
    assert uses_emphasis("a [cat")
    assert not uses_emphasis("a cat] \\(x\\) (b:1) BREAK ()")


@given(WORD, st.lists(st.one_of(st.just(None), st.floats(-3, 3).map(lambda w: round(w, 2))), max_size=8))
def test_nested_weights_multiply(word, weights):
    text = word
    for weight in weights:
        text = f"[{text}]" if weight is None else f"({text}:{weight:.2f})"
    expected = math.prod([1 / 1.1 if weight is None else weight for weight in weights], start=1.0)
    assert parse_attention(text) == [(word, pytest.approx(expected, rel=1e-12, abs=1e-12))]


@given(st.text("ab \\()[]:1.2-+\nBREAK", max_size=60))
def test_any_text_parses_and_neighbours_differ(text):
    pieces = parse_attention(text)
    assert pieces
    assert all(one.weight != two.weight for one, two in zip(pieces, pieces[1:], strict=False))
    kept = "".join(piece.text for piece in pieces)
    assert set(kept) <= set(text)


@given(st.text(max_size=40))
def test_escaped_text_keeps_its_brackets(text):
    words = text.replace("BREAK", "break")
    escaped = "".join("\\" + c if c in "\\()[]" else c for c in words)
    assert parse_attention(escaped) == [Weighted(words, 1.0)]


@pytest.mark.parametrize(
    "text",
    ["(a:0.5)[b]" * 10_000, " " * 100_000, ":" + " " * 99_999, ":" + "1" * 99_999, "a BREAK " * 12_500, "\\(" * 50_000]
    + ["(" * 10_000 + ")" * 10_000, "((((a))))" * 11_000],
    ids=lambda text: text[:8],
)
def test_long_prompts_take_linear_time(text):
    assert cpu_seconds(lambda: parse_attention(text)) < ENOUGH  # seen: 0.06


@pytest.mark.parametrize(
    "text", ["(a" * 50_000, "(" * 10_000 + "a", "(a:" + "9" * 400 + ")"], ids=lambda text: text[:8]
)
def test_what_is_too_deep_or_infinite_is_refused_at_once(text):
    def refused() -> None:
        with pytest.raises(InvalidRequest, match="fewer|too many"):
            parse_attention(text)

    assert cpu_seconds(refused) < ENOUGH
