"""Brightness and colours of a video's frames, kept steady."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import cv2
import numpy as np

from webui.core.errors import InvalidRequest
from webui.video.reading import Picture

ColourMatch: TypeAlias = Literal["LAB", "Histogram"]


def match_colours(picture: Picture, wanted: Picture, method: ColourMatch = "LAB") -> Picture:
    """The picture with the colours of another of any size.

    LAB: mean and standard deviation of each channel of CIE L*a*b*. Histogram: that of each channel of RGB.
    Source: Reinhard et al. 2001, "Color Transfer between Images".
    """
    if method == "Histogram":
        channels = [_with_histogram(picture[..., c], wanted[..., c]) for c in range(3)]
        return np.stack(channels, axis=2)
    own, other = (cv2.cvtColor(p.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for p in (picture, wanted))
    mean, spread = own.mean((0, 1)), own.std((0, 1))
    scale = np.where(spread > 1e-3, other.std((0, 1)) / np.maximum(spread, 1e-3), 1.0)
    matched = ((own - mean) * scale + other.mean((0, 1))).astype(np.float32)
    rgb = cv2.cvtColor(matched, cv2.COLOR_LAB2RGB)
    return np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)


def _with_histogram(channel: Picture, wanted: Picture) -> Picture:
    _, places, own = np.unique(channel.ravel(), return_inverse=True, return_counts=True)
    others, other = np.unique(wanted.ravel(), return_counts=True)
    table = np.interp(own.cumsum() / channel.size, other.cumsum() / wanted.size, others)
    return np.rint(table).astype(np.uint8)[places].reshape(channel.shape)


def brightness(picture: Picture) -> float:
    """The mean luma, 0 to 255."""
    return float(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).mean())


def deflickered(pictures: Iterable[Picture], window: int = 5, cuts: Iterable[int] = ()) -> Iterator[Picture]:
    """Each picture made as bright as the mean of the `window` around it, which must be odd; `window` are in memory.

    cuts: numbers of pictures that begin another scene; brightness does not cross them.
    """
    if window < 1 or window % 2 == 0:
        raise InvalidRequest(f"The deflicker window is {window} frames; choose an odd number from 1.")
    half, starts = window // 2, set(cuts)
    near: deque[tuple[int, int, Picture, float]] = deque()  # number, scene, picture, brightness
    scene, todo = 0, 0

    def steady() -> Picture:
        _, own_scene, picture, own = next(entry for entry in near if entry[0] == todo)
        around = [light for number, of, _, light in near if abs(number - todo) <= half and of == own_scene]
        wanted = sum(around) / len(around)
        if own <= 0 or wanted == own:
            return picture
        return np.clip(np.rint(picture.astype(np.float32) * (wanted / own)), 0, 255).astype(np.uint8)

    for number, picture in enumerate(pictures):
        scene += number in starts
        near.append((number, scene, picture, brightness(picture)))
        if number - todo >= half:
            yield steady()
            todo += 1
        while near and near[0][0] < todo - half:
            near.popleft()
    while todo <= (near[-1][0] if near else -1):
        yield steady()
        todo += 1
