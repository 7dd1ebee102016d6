"""Schedules: the vectors of the grammar, what is refused and how, and that nothing in them is executed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from extensions.deforum.schedules import ScheduleError, key_frame, schedule_texts, schedule_values


@pytest.mark.parametrize(
    ("text", "frames", "expected"),
    [
        ("0:(0), 10:(5)", 21, {1: 0.5, 5: 2.5, 9: 4.5, 10: 5, 20: 5}),
        ("0:(1), 10:(2), 20:(0)", 21, {3: 1.3, 15: 1, 19: 0.2}),
        (
            "0: (1.0025+0.002*sin(1.25*3.14*t/30))",
            120,
            {0: 1.0025, 1: 1.002761, 6: 1.003914, 12: 1.0045, 24: 1.002503, 30: 1.001089, 119: 1.002777},
        ),
        ("0:(t*2), 5:(1), 10:(3)", 12, {4: 8, 5: 1, 7: 1.8, 10: 3, 11: 3}),
        ("0:(1), 4:(t+10), 8:(0)", 10, dict(enumerate([1, 4.25, 7.5, 10.75, 14, 15, 16, 17, 0, 0]))),
        ('0:(0), "max_f/2":(10), "max_f":(0)', 120, {59: 10, 60: 9.833333, 119: 0}),
        ('0:(0), "max_f/2":(10), "max_f":(0)', 121, {30: 5, 60: 10}),
        (
            '0:(s), 1:(-1), "max_f-2":(-1), "max_f-1":(s)',
            10,
            {0: 1234, **dict.fromkeys(range(1, 8), -1), 8: 1234, 9: 1234},
        ),
        ("5:(2), 8:(5)", 10, {**dict.fromkeys(range(6), 2), 6: 3, 7: 4, 8: 5, 9: 5}),
        ("0:(where(t<5,1,2))", 8, {4: 1, 5: 2}),
        ("0:(t%4)", 9, dict(enumerate([0, 1, 2, 3, 0, 1, 2, 3, 0]))),
        ("0: 3", 2, {0: 3, 1: 3}),
        ("0:(-1.5), 4:(+2.5)", 5, {1: -0.5, 4: 2.5}),
        ("0:(5), 99:(7)", 10, {9: 5}),
        ("4:(t)", 6, {0: 4, 3: 4, 4: 4, 5: 5}),
        ("3:(1), 0:(4)", 4, {1: 3}),
        ("0:((1)+(2)*t)", 3, {2: 5}),
        ("0:((t>1)&(t<4))", 5, dict(enumerate([0, 0, 1, 1, 0]))),
        ("0:(t&1)", 4, dict(enumerate([0, 1, 0, 1]))),
        ("0:(where((t>1)&(t<4), t**2, 2**100/2**100))", 4, {0: 1, 3: 9}),
        ("0:(arctan2(t,max_f) + abs(-t) + floor(1.5) + real(t))", 3, {2: np.arctan2(2, 2) + 2 + 1 + 2}),
        ("0:(t/2)", 2, {1: 0.5}),
        ("0:(s)", 1, {0: 1234}),
        (" 0 : ( 1 ) ,\n 2 : (3) , ", 3, {1: 2}),
    ],
)
def test_values(text: str, frames: int, expected: dict[int, float]) -> None:
    values = schedule_values("angle", text, frames, seed=1234)
    assert values.shape == (frames,)
    for frame, value in expected.items():
        assert values[frame] == pytest.approx(value, abs=1e-6), frame


def test_large_seeds_are_exact() -> None:
    assert schedule_values("seed_schedule", "0:(s)", 2, seed=2**32 - 1)[1] == 2**32 - 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["no key"]),
        ("0:(1", ["column 3", "never closed"]),
        ("0:1)", ["column 4", "closes nothing"]),
        ("0:(1), 5", ["column 8", "no colon"]),
        ("0:(1), 7:()", ["column 10", "no value"]),
        ("0: (q+1)", ["column 4", '"q"', "max_f"]),
        ("0:(pi)", ['"pi"']),
        ("0:(1/t)", ["frame 0", "divides by zero"]),
        ("0:(1), 3:(1/(t-4))", ["column 10", "frame 4"]),
        ("0:(1/0)", ["divides by zero"]),
        ("0:(log(t-1))", ["frame 0"]),
        ("0:(9**9**9**9)", ["too large"]),
        ("0:(__import__('os').system('true'))", ["column 3"]),
        ("0:(open('x'))", ['"open"']),
        ("0:(t.real)", ["t.real"]),
        ("0:([1][0])", ["schedules don't know"]),
        ("0:((lambda: 1)())", ["schedules don't know"]),
        ("0:(t if t else 1)", ["schedules don't know"]),
        ("0:('a')", ["no"]),
        ("0:(where(t,1))", ["where", "it takes 3"]),
        ("0:(1<t<3)", ["chain"]),
        ("0:(sqrt(t-5+0))", ["frame 0"]),
        ("0:(" + "(" * 500 + "1" + ")" * 500 + ")", ["angle"]),
        ("0:(" + "-" * 1900 + "1)", ["angle"]),
        ("0:(" + "1+" * 3000 + "1)", ["longer than"]),
        ("0:(1" + "0" * 1500 + ")", ["angle"]),
        ("0:(1\0)", ["angle"]),
        ('"1/0":(1)', ["column 1", "key"]),
        ('"t":(1)', ["key", '"t"']),
        ("0:(1), (" * 5000, ["angle"]),
        (", ".join(f"{i}:(1)" for i in range(1_000_000)), ["characters long"]),
    ],
    ids=range(31),
)
def test_what_cannot_be_read_is_one_sentence_soon(text: str, parts: list[str]) -> None:
    schedule_values("warm", "0:(t+1)", 2, 0)
    begin = time.process_time()
    with pytest.raises(ScheduleError) as caught:
        schedule_values("angle", text, 10, seed=1)
    assert time.process_time() - begin < 0.1
    message = str(caught.value)
    assert message.startswith("angle")
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 400
    for part in parts:
        assert part in message


def test_texts_hold_until_the_next_key() -> None:
    text = '0: ("Euler a"), 2: ("DPM++ 2M, x: y"), "max_f": (DDIM)'
    assert schedule_texts("sampler_schedule", text, 5, 0) == ["Euler a"] * 2 + ["DPM++ 2M, x: y"] * 2 + ["DDIM"]
    assert schedule_texts("mask_schedule", '3: ("{video_mask}")', 5, 0) == ["{video_mask}"] * 5
    assert schedule_texts("mask_schedule", "0: ((a)&(b))", 1, 0) == ["(a)&(b)"]


def test_keys_are_cut_off_to_whole_numbers() -> None:
    assert key_frame("prompts", "max_f/4-5", 121, 0) == 25
    assert key_frame("prompts", " 7".strip(), 121, 0) == 7
    assert key_frame("prompts", "max_f/2", 120, 0) == 59
