"""Keys that edit weights and move items in a prompt, typed into the page."""

from __future__ import annotations

import pytest

from tests.browsing import Visit

PROMPT = "#txt2img_prompt textarea"
UP, DOWN = "Control+ArrowUp", "Control+ArrowDown"

# "|" is the cursor; two of them are a selection.
WEIGHTS = [
    ("a c|at", UP, "a (cat:1.1)"),
    ("a c|at", DOWN, "a (cat:0.9)"),
    ("a |red cat |here", UP, "a (red cat:1.1) here"),
    ("a (cat|:1.1) b", DOWN, "a cat b"),
    ("a (c|at:1.1) b", UP, "a (cat:1.2) b"),
    ("(cat|:1.05)", UP, "(cat:1.15)"),
    ("(c|at:1.9)", UP, "(cat:2.0)"),
    ("(c|at:0.1)", DOWN, "(cat:0.0)"),
    ("(c|at)", UP, "(cat:1.2)"),
    ("((c|at))", UP, "(cat:1.3)"),
    ("(((c|at)))", DOWN, "(cat:1.2)"),
    ("[c|at]", DOWN, "(cat:0.8)"),
    ("[[c|at]]", UP, "(cat:0.9)"),
    ("<lora:ink|:0.5> x", UP, "<lora:ink:0.55> x"),
    ("<lora:i|nk:0.95>", UP, "<lora:ink:1.0>"),
    ("<lora:i|nk:1.05>", DOWN, "<lora:ink:1.0>"),
    ("(one) t|wo (three)", UP, "(one) (two:1.1) (three)"),
    ("(one, (two), th|ree:1.2)", UP, "(one, (two), three:1.3)"),
    ("one, t|wo. three", UP, "one, (two:1.1). three"),
    ("  |  ", UP, "    "),
]
MOVES = [
    ("a, b|, c", "Alt+ArrowLeft", "b, a, c"),
    ("a, b|, c", "Alt+ArrowRight", "a, c, b"),
    ("|a, b|, c", "Alt+ArrowRight", "c, a, b"),
    ("a|, b", "Alt+ArrowLeft", "a, b"),
    ("a, (b c:1.2)|", "Alt+ArrowLeft", "(b c:1.2), a"),
]


def typed(visit: Visit, text: str, key: str) -> str:
    """The prompt after a key was pressed at the cursor or selection that "|" marks."""
    start, end = text.index("|"), text.rindex("|")
    visit.page.fill(PROMPT, text.replace("|", ""))
    end = end - 1 if end > start else start
    visit.page.eval_on_selector(PROMPT, "(area, [start, end]) => area.setSelectionRange(start, end)", [start, end])
    visit.page.press(PROMPT, key)
    return visit.page.input_value(PROMPT)


def test_weights_change_by_ctrl_and_arrows(visit: Visit) -> None:
    results = {(text, key): typed(visit, text, key) for text, key, _ in WEIGHTS}
    assert results == {(text, key): wanted for text, key, wanted in WEIGHTS}


def test_items_move_by_alt_and_arrows(visit: Visit) -> None:
    results = {(text, key): typed(visit, text, key) for text, key, _ in MOVES}
    assert results == {(text, key): wanted for text, key, wanted in MOVES}


@pytest.mark.parametrize(("ups", "wanted"), [(3, "(cat:1.3)"), (10, "(cat:2.0)")])
def test_repeated_presses_keep_the_word_selected(visit: Visit, ups: int, wanted: str) -> None:
    visit.page.fill(PROMPT, "cat")
    for _ in range(ups):
        visit.page.press(PROMPT, UP)
    assert visit.page.input_value(PROMPT) == wanted
