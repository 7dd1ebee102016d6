"""Weights over the steps: "0.2@0.1, 0.5@0.3, 0.1@0.7" has a weight at each share of the steps, straight lines between.

Before the first and after the last the weight is 0. What follows a "|" is for the second pass of hires fix.
"""

from __future__ import annotations

from bisect import bisect_right

from webui.extensions.api import InvalidRequest

MOST_WEIGHT = 2.0

Curve = tuple[tuple[float, float], ...]
"""(share of the steps, weight), by rising shares."""


def is_curve(text: str) -> bool:
    return "@" in text


def read_curves(text: str) -> tuple[Curve, Curve]:
    """Of the first pass and of the second; the same for both where the text has one. Raises: InvalidRequest."""
    parts = text.split("|")
    try:
        curves = [_read(part) for part in parts]
    except ValueError:
        curves = []
    if not 1 <= len(curves) <= 2 or not all(curves):
        raise InvalidRequest(
            f'ControlNet: "{text}" is no weight curve. Write weights from 0 to {MOST_WEIGHT:g} at shares of the steps '
            "from 0 to 1, such as 0.2@0.1, 0.5@0.3, 0.1@0.7, with another one for the hires pass after a |."
        )
    return curves[0], curves[-1]


def _read(text: str) -> Curve:
    """Raises: ValueError."""
    points = []
    for point in filter(None, map(str.strip, text.split(","))):
        weight, share = map(float, point.split("@"))
        if not (0 <= weight <= MOST_WEIGHT and 0 <= share <= 1):
            raise ValueError(point)
        points.append((share, weight))
    return tuple(sorted(points, key=lambda point: point[0]))


def weight_at(curve: Curve, share: float) -> float:
    """share: of the steps that are behind."""
    after = bisect_right(curve, share, key=lambda point: point[0])
    if after == 0:
        return 0.0
    before, weight = curve[after - 1]
    if after == len(curve):
        return weight if share == before else 0.0
    following, goal = curve[after]
    return weight + (goal - weight) * (share - before) / (following - before)


def divided(text: str, count: int) -> str:
    """The same curves at one `count`th of the weight."""
    curves = read_curves(text)
    told = [", ".join(f"{weight / count:g}@{share:g}" for share, weight in curve) for curve in curves]
    return told[0] if curves[0] == curves[1] else " | ".join(told)
