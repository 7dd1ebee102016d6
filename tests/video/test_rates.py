"""Rates and resampling: the vectors of the fact sheet, and laws for any rates."""

from __future__ import annotations

from fractions import Fraction

import pytest

from webui.core.errors import InvalidRequest
from webui.video import as_rate, resampled, resampled_by_time

THIRTY_TO_TWENTY = [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24, 26, 27, 29]
THIRTY_TO_24 = [0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29]


def test_published_vectors() -> None:
    assert resampled(30, 30, 20) == THIRTY_TO_TWENTY
    assert resampled(30, 30, 24) == THIRTY_TO_24
    faster = resampled(24, 24, 30)
    assert len(faster) == 30
    assert faster[:10] == [0, 1, 2, 2, 3, 4, 5, 6, 6, 7]
    assert len(resampled(300, 30, 20)) == 200


@pytest.mark.parametrize("rate", [24, 25, 29.97, 30, 60, 23.976, 12.5])
@pytest.mark.parametrize("wanted", [10, 24, 25, 29.97, 30, 50, 60])
def test_the_duration_stays_and_frames_never_go_back(rate: float, wanted: float) -> None:
    count = round(10 * rate)
    shown = resampled(count, rate, wanted)
    assert abs(len(shown) / as_rate(wanted) - count / as_rate(rate)) <= Fraction(1, 2) / as_rate(wanted)
    assert shown == sorted(shown)
    assert shown[0] >= 0
    assert shown[-1] <= count - 1
    if as_rate(wanted) >= as_rate(rate):
        assert set(shown) == set(range(count))  # every frame is used


@pytest.mark.parametrize(("rate", "wanted"), [(30, 20), (30, 24), (24, 30), (25, 60), (29.97, 10)])
def test_times_give_what_counting_gives(rate: float, wanted: float) -> None:
    times = [index / as_rate(rate) for index in range(50)]
    assert resampled_by_time(times, wanted, Fraction(0), 50 / as_rate(rate)) == resampled(50, rate, wanted)


def test_varying_times() -> None:
    times = [Fraction(t, 10) for t in (0, 1, 2, 7, 8, 9)]
    assert resampled_by_time(times, 10, Fraction(0), Fraction(1)) == [0, 1, 2, 2, 2, 2, 2, 3, 4, 5]


def test_ntsc_rates_are_exact() -> None:
    assert as_rate(29.97) == Fraction(30000, 1001)
    assert as_rate(23.976) == Fraction(24000, 1001)
    assert as_rate(59.94) == Fraction(60000, 1001)
    assert as_rate(12.5) == Fraction(25, 2)


@pytest.mark.parametrize("rate", [0, -5, float("nan"), float("inf"), 100_000])
def test_what_is_no_rate_is_told(rate: float) -> None:
    with pytest.raises(InvalidRequest, match="frames a second"):
        as_rate(rate)
