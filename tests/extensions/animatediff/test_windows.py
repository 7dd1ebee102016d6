"""Which frames are seen together, against the vectors of the original and by the laws they keep."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extensions.animatediff.windows import LOOPS, Context, halved_digits, pyramid, sliding, uniform


def frames(text: str) -> list[list[int]]:
    """ "0-3,8 5" is [[0, 1, 2, 3, 8], [5]]; "0-8:2" counts by twos."""
    found = []
    for window in text.split():
        numbers: list[int] = []
        for part in window.split(","):
            span, _, step = part.partition(":")
            first, _, last = span.partition("-")
            numbers += range(int(first), int(last or first) + 1, int(step or 1))
        found.append(numbers)
    return found


VECTORS: list[tuple[dict[str, Any], int, str]] = [
    ({"loop": "R-P"}, 0, "0-15 12-27 24-31,0-7"),
    ({"loop": "R+P"}, 0, "0-15 12-27 24-31,0-7"),
    ({"loop": "A"}, 0, "0-15 12-27 24-31,0-7"),
    ({"loop": "N"}, 0, "0-15 12-27 16-31 0-15"),
    ({"loop": "R-P"}, 1, "16-31 28-31,0-11 8-23"),
    ({"loop": "A"}, 1, "16-31 28-31,0-11 8-23"),
    ({"loop": "N"}, 1, "16-31 16-31 0-15 8-23"),
    ({"loop": "R-P"}, 2, "8-23 20-31,0-3 0-15"),
    ({"loop": "R-P"}, 3, "24-31,0-7 4-19 16-31"),
    ({"length": 24}, 0, "0-15 12-23,0-3"),
    ({"length": 24}, 1, "12-23,0-3 0-15"),
    (
        {"length": 64, "stride": 4},
        0,
        "0-15 12-27 24-39 36-51 48-63 0-30:2 28-58:2 56-62:2,0-22:2 0-60:4",
    ),
    ({"length": 48, "stride": 2}, 1, "24-39 36-47,0-3 0-15 12-27 25-47:2,1-7:2 5-35:2"),
]


@pytest.mark.parametrize(("context", "call", "wanted"), VECTORS)
def test_the_contexts_are_those_of_the_original(context: dict[str, Any], call: int, wanted: str) -> None:
    made = Context(**{"length": 32, "size": 16, "stride": 1, "overlap": 4, **context})
    assert uniform(call, made) == frames(wanted)


def test_a_closed_loop_has_contexts_over_the_end_at_every_stride() -> None:
    made = uniform(0, Context(64, 16, 4, 4, "A"))
    assert frames("60-63,0-11")[0] in made
    assert made[-1] == frames("60,0-56:4")[0]


def test_binary_digits_behind_the_point_turned_round() -> None:
    assert [halved_digits(number) for number in range(6)] == [0, 0.5, 0.25, 0.75, 0.125, 0.625]


CONTEXTS = st.integers(1, 24).flatmap(
    lambda size: st.builds(
        Context,
        length=st.integers(1, 100),
        size=st.just(size),
        stride=st.integers(1, 4),
        overlap=st.integers(0, size - 1),
        loop=st.sampled_from(LOOPS),
    )
)


@given(CONTEXTS, st.integers(0, 60))
def test_every_frame_is_covered_at_every_call_by_contexts_of_one_size(context: Context, call: int) -> None:
    windows = uniform(call, context)
    assert {frame for window in windows for frame in window} == set(range(context.length))
    assert {len(window) for window in windows} == {min(context.size, context.length)}
    if context.loop == "N" and context.stride == 1 and not context.is_whole:
        assert all(b > a for window in windows for a, b in zip(window, window[1:], strict=False))


@given(CONTEXTS, st.integers(1, 8))
def test_sliding_contexts_cover_all_and_end_with_the_clip(context: Context, stride: int) -> None:
    windows = sliding(context, stride)
    assert windows[0][0] == 0
    assert windows[-1][-1] == context.length - 1
    if stride <= context.size:
        assert {frame for window in windows for frame in window} == set(range(context.length))


def test_the_middle_of_a_context_counts_most() -> None:
    assert pyramid(16) == [1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1]
