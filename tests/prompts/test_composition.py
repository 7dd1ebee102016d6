import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import ENOUGH, cpu_seconds
from webui.core.errors import InvalidRequest
from webui.prompts.composition import Part, split_composition

GRAMMAR = json.loads((Path(__file__).parents[1] / "fixtures/prompts/prompt-grammar.json").read_text("utf-8"))


@pytest.mark.parametrize("case", GRAMMAR, ids=lambda case: case["prompt"])
def test_recorded_parts(case):
    assert [list(part) for part in split_composition(case["prompt"])] == case["multicond"]


@given(st.lists(st.tuples(st.text("ab ,()", max_size=5), st.floats(-2, 2).map(lambda w: round(w, 2))), min_size=1))
def test_parts_keep_text_and_weight(parts):
    prompt = " AND".join(f" {text}:{weight:.2f}" for text, weight in parts)
    assert split_composition(prompt) == tuple(Part((" " + text).rstrip(), weight) for text, weight in parts)


@pytest.mark.parametrize("prompt", ["a AND b " * 99, ":" * 100_000, " " * 100_000 + ":1"], ids=lambda p: p[:8])
def test_long_prompts_take_linear_time(prompt):
    assert cpu_seconds(lambda: split_composition(prompt)) < ENOUGH


@pytest.mark.parametrize("prompt", ["a AND " * 16_000, "a:" + "9" * 400])
def test_absurd_compositions_are_refused(prompt):
    with pytest.raises(InvalidRequest, match=r"AND|digits"):
        split_composition(prompt)
