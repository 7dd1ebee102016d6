"""Optical flow and what is made with it, on a textured square that moves 3 pixels a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.video.clips import moving_square
from webui.core.errors import InvalidRequest
from webui.video import (
    FLOW_METHODS,
    Picture,
    brightness,
    carried,
    consistent,
    deflickered,
    flicker,
    in_between,
    in_betweens,
    interpolated,
    match_colours,
    optical_flow,
    pull,
    scene_cuts,
)

FRAMES = list(moving_square(8))
INSIDE = np.s_[26:38, 10:22]  # of the first square, away from its edges


@pytest.mark.parametrize("method", FLOW_METHODS)
def test_flow_finds_the_movement(method: Any) -> None:
    flow = optical_flow(FRAMES[0], FRAMES[1], method)
    assert flow.shape == (64, 96, 2)
    assert np.abs(np.median(flow[INSIDE].reshape(-1, 2), axis=0) - (3, 0)).max() < 0.4
    assert np.abs(flow[:, 60:]).mean() < 0.4  # the ground stands


def test_pulling_undoes_the_movement() -> None:
    moved = pull(FRAMES[1], optical_flow(FRAMES[0], FRAMES[1]))
    assert np.abs(moved.astype(int) - FRAMES[0])[INSIDE].mean() < 8
    assert np.abs(FRAMES[1].astype(int) - FRAMES[0])[INSIDE].mean() > 20


def test_what_is_covered_is_found() -> None:
    """The ground in front of the moving square is covered next, and is the largest part of what doesn't hold."""
    there, back = optical_flow(FRAMES[0], FRAMES[2], "DIS Fine"), optical_flow(FRAMES[2], FRAMES[0], "DIS Fine")
    held = consistent(there, back)
    assert held[INSIDE].mean() > 0.9
    assert held[:, 60:].mean() > 0.95
    assert held[22:42, 29:34].mean() < 0.6


def test_a_still_scene_is_carried_unchanged() -> None:
    result = 255 - FRAMES[0]
    moved, held = carried(result, FRAMES[0], FRAMES[0])
    assert np.array_equal(moved, result)
    assert held.all()


def test_pictures_smaller_than_a_patch() -> None:
    small = np.zeros((5, 7, 3), np.uint8)
    for method in FLOW_METHODS:
        assert optical_flow(small, small, method).shape == (5, 7, 2)
    with pytest.raises(InvalidRequest, match="RAFT"):
        optical_flow(small, small, "RAFT")  # type: ignore[arg-type]


def test_the_picture_in_between_beats_mixing() -> None:
    between = in_between(FRAMES[0], FRAMES[2], 0.5)
    true = FRAMES[1].astype(float)
    mixed = (FRAMES[0].astype(float) + FRAMES[2]) / 2
    assert np.abs(between - true).mean() < 0.6 * np.abs(mixed - true).mean()
    assert np.array_equal(in_between(FRAMES[0], FRAMES[2], 0.0), FRAMES[0])
    assert np.array_equal(in_between(FRAMES[0], FRAMES[2], 1.0), FRAMES[2])


def test_nothing_is_mixed_across_a_cut() -> None:
    white = np.full_like(FRAMES[0], 250)
    black = np.full_like(FRAMES[0], 5)
    early, late = in_betweens(white, black, [0.3, 0.7])
    assert np.array_equal(early, white)
    assert np.array_equal(late, black)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_interpolation(factor: int) -> None:
    made = list(interpolated(FRAMES[:4], factor))
    assert len(made) == 3 * factor + 1
    assert all(np.array_equal(made[number * factor], FRAMES[number]) for number in range(4))
    whole = list(interpolated(FRAMES[:4], factor, whole=True))
    assert len(whole) == 4 * factor
    assert all(np.array_equal(frame, FRAMES[3]) for frame in whole[-factor:])
    assert list(interpolated([], factor, whole=True)) == []


def test_an_engine_is_asked_for_every_gap_but_not_across_a_cut() -> None:
    asked: list[list[float]] = []

    def between(first: Picture, second: Picture, shares: Sequence[float]) -> list[Picture]:
        asked.append(list(shares))
        return [second for _ in shares]

    black, white = np.zeros_like(FRAMES[0]), np.full_like(FRAMES[0], 255)
    made = list(interpolated([FRAMES[0], FRAMES[1], black, white], 4, between))
    assert asked == [[0.25, 0.5, 0.75]]
    assert all(np.array_equal(frame, FRAMES[1]) for frame in made[1:4])
    assert [int(frame[0, 0, 0]) for frame in made[-5:]] == [0, 0, 255, 255, 255]


def test_cuts_are_found_and_movement_is_none() -> None:
    other = [255 - frame // 3 for frame in moving_square(4)]
    assert list(scene_cuts([*FRAMES, *other, *FRAMES[:2]])) == [8, 12]
    assert list(scene_cuts(FRAMES)) == []
    assert list(scene_cuts(FRAMES[:1])) == []


def test_the_measure_of_flicker() -> None:
    restless = [np.clip(frame.astype(int) + (20 if number % 2 else 0), 0, 255).astype(np.uint8)
                for number, frame in enumerate(FRAMES)]  # fmt: skip
    calm = flicker(FRAMES, FRAMES)
    assert calm < 5
    assert flicker(restless, FRAMES) > calm + 10
    assert flicker(FRAMES[:1], FRAMES[:1]) == 0


def test_deflicker_calms() -> None:
    dim = [(frame * 0.5 + 30).astype(np.uint8) for frame in FRAMES]
    restless = [(frame * (1.0 if number % 2 else 1.3)).astype(np.uint8) for number, frame in enumerate(dim)]
    steady = list(deflickered(restless, 5))
    assert len(steady) == len(restless)
    assert flicker(steady, FRAMES) < 0.7 * flicker(restless, FRAMES)
    assert all(np.array_equal(a, b) for a, b in zip(deflickered(restless, 1), restless, strict=True))
    with pytest.raises(InvalidRequest, match="odd"):
        list(deflickered(restless, 4))


def test_deflicker_stops_at_cuts() -> None:
    scenes = [np.full((8, 8, 3), 50, np.uint8)] * 4 + [np.full((8, 8, 3), 200, np.uint8)] * 4
    assert [brightness(picture) for picture in deflickered(scenes, 5, cuts=[4])] == [50.0] * 4 + [200.0] * 4
    assert [brightness(picture) for picture in deflickered(scenes, 5)] != [50.0] * 4 + [200.0] * 4


@pytest.mark.parametrize("method", ["LAB", "Histogram"])
def test_colours_are_matched(method: Any) -> None:
    wanted = FRAMES[0]
    tinted = np.clip(wanted * np.array([0.6, 0.8, 0.5]) + (20, 5, 40), 0, 255).astype(np.uint8)
    matched = match_colours(tinted, wanted, method)
    assert np.abs(matched.astype(int) - wanted).mean() < 0.4 * np.abs(tinted.astype(int) - wanted).mean()
    assert np.abs(match_colours(wanted, wanted, method).astype(int) - wanted).max() <= 2
    flat = np.full((16, 16, 3), 90, np.uint8)
    assert match_colours(flat, wanted, method).shape == (16, 16, 3)
