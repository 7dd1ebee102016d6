"""Prompts and seeds of every frame, held against what the original said in its log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extensions.deforum.prompts import join, prompts_by_frame, unjoin
from extensions.deforum.seeds import Seeds
from webui.extensions.api import InvalidRequest


def test_recorded_prompts(parity: Path) -> None:
    manifest = json.loads((parity / "deforum" / "manifest.json").read_text(encoding="utf-8"))
    for name, case in manifest.items():
        sent = case["deforum_settings"]
        around = sent.get("animation_prompts_positive", ""), sent.get("animation_prompts_negative", "")
        frames = len(case["prompts"]) if sent["animation_mode"] == "Video Input" else sent["max_frames"]
        mixed = sent["animation_mode"] == "Interpolation"
        ours = prompts_by_frame(sent["prompts"], *around, frames, 0, mixed)
        if mixed:
            texts = [" --neg ".join(part for part in prompt if part) for prompt in ours]
            assert [" ".join(text.split()) for text in texts] == [" ".join(text.split()) for text in case["prompts"]]
            continue
        told = [ours[generated["frame"]] for generated in case["generated"]]
        assert [positive for positive, _ in told] == case["prompts"], name
        assert [negative for _, negative in told] == case["negative_prompts"], name


def test_weights_between_keys() -> None:
    ours = prompts_by_frame({"0": "p1", "30": "p2"}, "", "", 31, 0, interpolated=True)
    assert ours[5][0].startswith("( p1 ):0.8333")
    assert ours[15] == ("( p1 ):0.5 AND  ( p2 ):0.5", "")
    assert ours[30] == ("p2", "")


def test_formulas_inside_a_prompt() -> None:
    ours = prompts_by_frame({"0": "(cat:`0.5+0.5*t/max_f`) `t*2` `sqrt(t+1)`"}, "", "", 5, 0)
    assert ours[3][0] == "(cat:0.875) 6 2.0"
    with pytest.raises(InvalidRequest, match="frame 0"):
        prompts_by_frame({"0": "`1/t`"}, "", "", 5, 0)
    with pytest.raises(InvalidRequest, match="open"):
        prompts_by_frame({"0": "`open('x')`"}, "", "", 5, 0)


def test_keys() -> None:
    ours = prompts_by_frame({"max_f/2": "b", "0": "a", "900": "never"}, "", "", 9, 0)
    assert [text for text, _ in ours] == ["a"] * 4 + ["b"] * 5
    with pytest.raises(InvalidRequest, match="no key"):
        prompts_by_frame({"9": "a"}, "", "", 9, 0)


@pytest.mark.parametrize("prompt", ["a", "a --neg b", "--neg", "", " a ", "a --neg "])
@pytest.mark.parametrize("around", [("", ""), ("x,", "y"), ("x", ""), ("", "y")])
def test_joining_is_undone(prompt: str, around: tuple[str, str]) -> None:
    joined = join(prompt, *around)
    assert join(unjoin(joined, *around), *around) == joined
    assert unjoin("something else", "x", "y") == "something else"


@pytest.mark.parametrize(
    ("behavior", "repeats", "expected"),
    [
        ("iter", 1, [100, 101, 102, 103]),
        ("iter", 3, [100, 101, 101, 101, 102, 102, 102, 103]),
        ("fixed", 1, [100, 100, 100]),
        ("ladder", 1, [100, 102, 101, 103, 102, 104, 103, 105]),
        ("alternate", 1, [100, 101, 100, 101]),
    ],
)
def test_seeds(behavior: str, repeats: int, expected: list[int]) -> None:
    seeds = Seeds(100, behavior, 100, repeats)
    found = []
    for _ in expected:
        found.append(seeds.seed)
        seeds = seeds.following()
    assert found == expected


def test_random_seeds_come_again() -> None:
    first, second = Seeds(100, "random", 100), Seeds(100, "random", 100)
    drawn = []
    for _ in range(20):
        first, second = first.following(), second.following()
        assert first == second
        drawn.append(first.seed)
    assert len(set(drawn)) == 20
    assert Seeds(100, "schedule", 100).following(7).seed == 7
    assert Seeds(100, "schedule", 100).following(-1).seed != -1
