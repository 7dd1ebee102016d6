"""How pictures of a video move: optical flow, and what is computed with it.

Pictures are (height, width, 3) uint8 arrays of one size. A flow is (height, width, 2) float32: the pixel (x, y) of the
first picture stands at (x, y) + flow[y, x] in the second. Masks are (height, width) bool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from webui.core.errors import InvalidRequest
from webui.video.reading import Picture

Flow: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
FlowMethod = Literal["DIS Medium", "DIS Fine", "Farneback"]
FLOW_METHODS: tuple[FlowMethod, ...] = get_args(FlowMethod)
Between: TypeAlias = Callable[[Picture, Picture, Sequence[float]], list[Picture]]
"""Makes the pictures that are these shares (0 to 1) of the way from one to the other."""

OCCLUDED = 1.5
"""Pixels that a point may miss itself by when it is carried there and back."""
CUT_DIFFERENCE, CUT_CORRELATION = 30.0, 0.6
"""A cut: the brightness differs by more than this on average (of 255), or its histograms correlate less."""
_SMALLEST = 16
"""Pixels a side below which DIS finds no patches."""


def optical_flow(first: Picture, second: Picture, method: FlowMethod = "DIS Medium") -> Flow:
    """From `first` to `second`.

    Sources: Kroeger et al. 2016, arXiv:1603.03590 (DIS); Farneback 2003, both by OpenCV.
    """
    if method not in FLOW_METHODS:
        raise InvalidRequest(f'The optical flow "{method}" is unknown; choose one of {", ".join(FLOW_METHODS)}.')
    height, width = first.shape[:2]
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second)]
    missing = max(_SMALLEST - height, 0), max(_SMALLEST - width, 0)
    grey = [np.pad(picture, ((0, missing[0]), (0, missing[1])), mode="edge") for picture in grey]
    if method == "Farneback":
        flow = cv2.calcOpticalFlowFarneback(grey[0], grey[1], None, 0.5, 5, 21, 5, 7, 1.2, 0)  # type: ignore[call-overload]
    else:
        finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        if method == "DIS Fine":
            finder.setFinestScale(0)
            finder.setGradientDescentIterations(192)
            finder.setPatchSize(8)
            finder.setPatchStride(4)
        flow = finder.calc(grey[0], grey[1], None)  # type: ignore[call-overload]
    return np.ascontiguousarray(flow[:height, :width], dtype=np.float32)


def pull(picture: Picture, flow: Flow) -> Picture:
    """The picture at which each pixel's flow points: with the flow from A to B and B's colours, A's picture.

    What lies outside is taken from the border.
    """
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


def consistent(there: Flow, back: Flow, error: float = OCCLUDED) -> Mask:
    """Where a pixel comes back to itself, to within `error` pixels: it is to be seen in both pictures.

    there: the flow from A to B; back: from B to A. Returns: A's pixels.
    """
    height, width = there.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    at_x, at_y = x + there[..., 0], y + there[..., 1]
    returned = cv2.remap(back, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (at_x >= -0.5) & (at_x <= width - 0.5) & (at_y >= -0.5) & (at_y <= height - 0.5)
    return np.asarray((np.hypot(*np.moveaxis(there + returned, 2, 0)) <= error) & inside)


def carried(
    result: Picture, before: Picture, after: Picture, method: FlowMethod = "DIS Medium"
) -> tuple[Picture, Mask]:
    """What was made of the frame `before`, moved as the video moves to the frame `after`; and where that holds."""
    back = optical_flow(after, before, method)
    return pull(result, back), consistent(back, optical_flow(before, after, method))


def in_between(first: Picture, second: Picture, share: float, method: FlowMethod = "DIS Medium") -> Picture:
    """The picture that is `share` (0 to 1) of the way from `first` to `second`."""
    return in_betweens(first, second, [share], method)[0]


def in_betweens(
    first: Picture, second: Picture, shares: Iterable[float], method: FlowMethod = "DIS Medium"
) -> list[Picture]:
    """Pictures on the way from `first` to `second`, moved there from both sides and blended.

    Where the movement of only one of them is sure, that one alone is used, and where neither's is, the nearer picture
    as it stands, as across a cut.
    """
    shares = list(shares)
    if not shares:
        return []
    if is_cut(first, second):
        return nearer(first, second, shares)
    there, back = optical_flow(first, second, method), optical_flow(second, first, method)
    seen_first, seen_second = consistent(there, back), consistent(back, there)
    return [_between(first, second, share, there, back, seen_first, seen_second) for share in shares]


def _between(
    first: Picture, second: Picture, share: float, there: Flow, back: Flow, seen_first: Mask, seen_second: Mask
) -> Picture:
    if share <= 0:
        return first
    if share >= 1:
        return second
    # The flow of the pixels in between is taken from those at the same place, which holds for small movements.
    # Source: Jiang et al. 2018, arXiv:1712.00080, eq. 4.
    to_first = (-(1 - share) * share) * there + share * share * back
    to_second = ((1 - share) ** 2) * there - (share * (1 - share)) * back
    from_first, from_second = pull(first, to_first), pull(second, to_second)
    held_first, held_second = _pulled_mask(seen_first, to_first), _pulled_mask(seen_second, to_second)
    weight = np.full(first.shape[:2], share, dtype=np.float32)
    weight[held_first & ~held_second] = 0
    weight[held_second & ~held_first] = 1
    mixed = from_first * (1 - weight[..., None]) + from_second * weight[..., None]
    unknown = ~held_first & ~held_second
    mixed[unknown] = (first if share < 0.5 else second)[unknown]
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _pulled_mask(mask: Mask, flow: Flow) -> Mask:
    return pull(mask.astype(np.uint8) * 255, flow) > 127


def interpolated(
    pictures: Iterable[Picture], factor: int, between: Between = in_betweens, *, whole: bool = False
) -> Iterator[Picture]:
    """The pictures with factor - 1 more in each gap: n become (n - 1) factor + 1.

    between: makes them; across a cut it isn't asked, and the nearer picture stands. whole: the last picture stays for
    its time, too, so that n become n factor, which at `factor` times the rate last exactly as long.
    Raises: InvalidRequest for a factor below 1.
    """
    if factor < 1:
        raise InvalidRequest(f"The interpolation factor is {factor}; choose 1 or more.")
    shares = [step / factor for step in range(1, factor)]
    before: Picture | None = None
    for picture in pictures:
        if before is not None and shares:
            yield from nearer(before, picture, shares) if is_cut(before, picture) else between(before, picture, shares)
        yield picture
        before = picture
    if before is not None and whole:
        yield from (before for _ in shares)


def nearer(first: Picture, second: Picture, shares: Iterable[float]) -> list[Picture]:
    """Of each share of the way the picture that is nearer."""
    return [first if share < 0.5 else second for share in shares]


def is_cut(first: Picture, second: Picture) -> bool:
    """Whether another scene begins with `second`."""
    bright = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (first, second)]
    if np.abs(bright[0].astype(np.int16) - bright[1]).mean() > CUT_DIFFERENCE:
        return True
    one, other = (cv2.calcHist([picture], [0], None, [64], [0, 256]) for picture in bright)
    return bool(cv2.compareHist(one, other, cv2.HISTCMP_CORREL) < CUT_CORRELATION)


def scene_cuts(pictures: Iterable[Picture]) -> Iterator[int]:
    """The numbers of the pictures, counted from 0, that begin another scene."""
    before: Picture | None = None
    for number, picture in enumerate(pictures):
        if before is not None and is_cut(before, picture):
            yield number
        before = picture


def flicker(results: Iterable[Picture], sources: Iterable[Picture], method: FlowMethod = "DIS Medium") -> float:
    """How restless a video is, in levels of 255: what changes of each pixel that its source only moves.

    The mean over the frames of |result - the result before, moved as the source moves|, where that is to be seen.
    """
    changes = list[float]()
    last: tuple[Picture, Picture] | None = None
    for result, source in zip(results, sources, strict=True):
        if last is not None:
            moved, seen = carried(last[0], last[1], source, method)
            if seen.any():
                changes.append(float(np.abs(result.astype(np.float32) - moved)[seen].mean()))
        last = result, source
    return sum(changes) / len(changes) if changes else 0.0
