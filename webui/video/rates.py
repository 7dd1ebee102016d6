"""Frame rates, and which frame of a video is shown at which time of another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from math import floor

from webui.core.errors import InvalidRequest

FASTEST, SLOWEST = 1000, Fraction(1, 3600)
"""Frames a second that a video may have."""

_NTSC = [Fraction(number * 1000, 1001) for number in (24, 30, 48, 60, 120)]


def as_rate(rate: Fraction | float) -> Fraction:
    """A number of frames a second as a fraction: 29.97 means 30000/1001, 23.976 means 24000/1001.

    Raises: InvalidRequest for what is no rate.
    """
    if isinstance(rate, float):
        if not SLOWEST <= rate <= FASTEST:  # infinity and NaN too
            raise InvalidRequest(f"A video can't have {rate} frames a second; choose a number from 1 to 240.")
        near = next((ntsc for ntsc in _NTSC if abs(rate - ntsc) < 0.006), None)
        rate = near if near is not None else Fraction(rate).limit_denominator(1001)
    if not SLOWEST <= rate <= FASTEST:
        raise InvalidRequest(f"A video can't have {rate} frames a second; choose a number from 1 to 240.")
    return Fraction(rate)


def resampled(count: int, rate: Fraction | float, wanted: Fraction | float) -> list[int]:
    """Which frame of a video with `count` frames is shown by each frame of one that lasts as long at another rate.

    The frame in the middle of whose time it is shown: min(count - 1, floor((i + 1/2) rate / wanted)).
    Returns: round(count wanted / rate) numbers counted from 0, at least one, never decreasing.
    """
    rate, wanted = as_rate(rate), as_rate(wanted)
    length = max(round(count * wanted / rate), 1)
    return [min(count - 1, floor((index + Fraction(1, 2)) * rate / wanted)) for index in range(length)]


def resampled_by_time(times: Sequence[Fraction], wanted: Fraction | float, start: Fraction, end: Fraction) -> list[int]:
    """As `resampled`, for frames that are shown from `times` on, and for the seconds from `start` to `end` of them."""
    wanted = as_rate(wanted)
    length = max(round((end - start) * wanted), 1)
    middles = (start + (index + Fraction(1, 2)) / wanted for index in range(length))
    return [max(bisect_right(times, middle) - 1, 0) for middle in middles]
