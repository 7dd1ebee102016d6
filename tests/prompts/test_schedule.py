import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import ENOUGH, cpu_seconds
from webui.core.errors import InvalidRequest
from webui.prompts.schedule import index_at, parse_schedule

GRAMMAR = json.loads((Path(__file__).parents[1] / "fixtures/prompts/prompt-grammar.json").read_text("utf-8"))
PASSES = {
    "10 steps": ({"steps": 10}, lambda case: case["schedule"]["10"]),
    "20 steps": ({"steps": 20}, lambda case: case["schedule"]["20"]),
    "hires": ({"steps": 20, "hires_steps": 10}, lambda case: case["schedule_hires_10_base_20"]),
    "old": ({"steps": 20, "old": True}, lambda case: case["schedule_20_old"]),
}


@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("case", GRAMMAR, ids=lambda case: case["prompt"])
def test_recorded_schedules(case, kind):
    arguments, recorded = PASSES[kind]
    assert [list(entry) for entry in parse_schedule(case["prompt"], **arguments)] == recorded(case)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("a [b:1.0]", [(10, "a ")]),
        ("[a:b:0.05]", [(10, "b")]),
        ("a [b:-1] c", [(10, "a b c")]),
        ("[[a:b:3]:c:7]", [(3, "a"), (7, "b"), (10, "c")]),
        ("[x:[a:b:3]:y:z]", [(3, "[x:a:y:z]"), (10, "[x:b:y:z]")]),
        ("[a:b:1e999] [c:-1e999.]", [(10, "a [c:-1e999.]")]),
        ("[a:b:1e999] [c:-1e999]", [(10, "a c")]),
        ("x|y [a:b:3]", [(10, "x|y [a:b:3]")]),
        ("[a:b:3] \\", [(10, "[a:b:3] \\")]),
        ("(a|b)[c:3]", [(10, "(a|b)[c:3]")]),
    ],
)
def test_ten_steps(prompt, expected):
    assert list(parse_schedule(prompt, 10)) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a [b:15] c", [(5, "a  c"), (10, "a b c")]),
        ("a [b:.5] c", [(10, "a b c")]),
        ("a [b:1.5] c", [(5, "a  c"), (10, "a b c")]),
    ],
)
def test_second_pass(prompt, expected):
    assert list(parse_schedule(prompt, 10, hires_steps=10)) == expected


def test_alternation_takes_turns_and_may_be_empty():
    assert [entry.text for entry in parse_schedule("[fe|]male [a|b|c]", 4)] == [
        *("female a", "male b", "female c", "male a"),
    ]


def test_old_schedule_repeats_in_the_second_pass():
    prompt = "[a:b:0.5][c:d:3]"
    assert parse_schedule(prompt, 20, hires_steps=10, old=True) == parse_schedule(prompt, 20, old=True)


def test_first_entry_lasts_one_call_longer():
    schedule = parse_schedule("[a:b:3]", 10)
    assert [index_at(schedule, call) for call in range(12)] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]


@given(
    st.text("ab[]():|.5\\ 1", max_size=40),
    st.integers(1, 30),
    st.one_of(st.none(), st.integers(1, 30)),
    st.booleans(),
)
def test_end_steps_grow_to_the_number_of_steps(prompt, steps, hires_steps, old):
    schedule = parse_schedule(prompt, steps, hires_steps=hires_steps, old=old)
    ends = [entry.end_step for entry in schedule]
    assert ends == sorted(set(ends))
    assert ends[0] >= 1
    assert ends[-1] == (hires_steps if hires_steps and not old else steps)


WORDS = st.text("ab ,", max_size=4)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS, st.integers(-2, 25)), max_size=5))
def test_edits_in_a_row_switch_each_at_its_step(edits):
    prompt = "".join(f"{text}[{before}:{after}:{when}]" for text, before, after, when in edits)
    schedule = parse_schedule(prompt, 20)
    for step in range(1, 21):
        entry = next(entry for entry in schedule if step <= entry.end_step)
        assert entry.text == "".join(
            text + (before if step <= min(when, 20) else after) for text, before, after, when in edits
        )


@given(st.text("ab ()\\\n,é", max_size=40))
def test_a_prompt_that_switches_nothing_stays_as_it_is(prompt):
    assert [entry.text for entry in parse_schedule(prompt, 5)] == [prompt]


@pytest.mark.parametrize(
    "prompt",
    ["(" * 10_000 + "a" + ")" * 10_000, "[" * 100_000, "[a:" * 6_000 + "b" + ":3]" * 6_000, "a:" * 50_000]
    + ["(a:1.1) " * 12_500, "[[[" + ":" * 100_000, "|" * 100_000, "[(:" + "1" * 100_000 + "]", "[a:b:3]" * 5_000],
    ids=lambda prompt: prompt[:8],
)
def test_long_prompts_take_linear_time(prompt):
    assert cpu_seconds(lambda: parse_schedule(prompt, 150)) < ENOUGH  # seen: 0.06


@pytest.mark.parametrize("prompt", ["[a|" * 10_000 + "]" * 10_000, "[a:b:3]" * 14_000, "[a|b]" * 3_000])
def test_too_many_switches_are_refused_at_once(prompt):
    def refused() -> None:
        with pytest.raises(InvalidRequest, match="use fewer"):
            parse_schedule(prompt, 150)

    assert cpu_seconds(refused) < ENOUGH


def test_a_long_prompt_may_not_become_thousands_of_long_texts():
    with pytest.raises(InvalidRequest, match="shorten it"):
        parse_schedule("[a|b]" + "c" * 100_000, 10_000)
    assert len(parse_schedule("[a|b]" + "c" * 1_000, 10_000)) == 10_000
