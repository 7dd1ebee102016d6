"""Schedules drawn as curves, small enough to be drawn anew with every letter that is typed."""

from __future__ import annotations

import html
from collections.abc import Mapping

from webui.extensions.api import InvalidRequest

from .schedules import MOST_FRAMES, schedule_values

WIDTH, HEIGHT = 480, 48
POINTS = 500
"""How many places of a curve are drawn at most."""
LETTERS = 20_000
"""A longer schedule isn't drawn."""


def plot_schedules(schedules: Mapping[str, tuple[str, str]], frames: int, seed: int) -> str:
    """HTML with a curve for each schedule that changes, and a sentence for each that can't be computed.

    schedules: key -> (label, text).
    """
    if not 1 <= frames <= MOST_FRAMES:
        return ""
    return "".join(_drawn(key, label, text, frames, seed) for key, (label, text) in schedules.items())


def _drawn(key: str, label: str, text: str, frames: int, seed: int) -> str:
    import numpy as np

    if len(text) > LETTERS:
        return ""
    try:
        values = schedule_values(key, text, frames, seed)
    except InvalidRequest as error:
        return f'<p class="deforum-mistake">{html.escape(str(error))}</p>'
    low, high = float(values.min()), float(values.max())
    if low == high:
        return ""
    places = np.unique(np.linspace(0, frames - 1, min(frames, POINTS)).astype(int))
    x = places / max(1, frames - 1) * WIDTH
    y = HEIGHT - 2 - (values[places] - low) / (high - low) * (HEIGHT - 4)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    title = f"{html.escape(label)}: {low:.4g} to {high:.4g}"
    return (
        f'<figure style="margin:0 0 4px"><figcaption>{title}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}" style="width:100%;height:{HEIGHT}px" '
        f'preserveAspectRatio="none"><polyline points="{points}" fill="none" stroke="currentColor" '
        'vector-effect="non-scaling-stroke"/></svg></figure>'
    )
