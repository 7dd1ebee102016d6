"""How much memory the machine has left, and how many pixels that is enough for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from webui.core.errors import InvalidRequest

INPUT_BYTES = 32
"""Bytes that a pixel of an input takes in all: decoded, turned, converted, laid over, as numbers."""
SHARE = 0.5
"""Of the memory at hand, for the pictures of one request; the rest is the model's."""
MOST_INPUT_PIXELS = 100_000_000
"""Of one request, however much memory there is."""
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_bytes() -> int:
    """Memory that can be had without swapping: the machine's, or what the limit of this container leaves."""
    return min([int(psutil.virtual_memory().available), *_left_in_container()])


def _left_in_container() -> Iterator[int]:
    for limit, used in _CGROUPS:
        try:
            yield max(int(Path(limit).read_text()) - int(Path(used).read_text()), 0)
        except (OSError, ValueError):
            continue  # no such group, or "max": no limit


def require_room(sizes: Iterable[tuple[str, int, int]]) -> None:
    """Whether all these pictures may be decoded for one request. sizes: (name, width, height) of each.

    Raises: InvalidRequest when together they have more pixels than fit into memory with all that is made of them.
    """
    named = list(sizes)
    pixels = sum(width * height for _, width, height in named)
    most = min(int(available_bytes() * SHARE / INPUT_BYTES), MOST_INPUT_PIXELS)
    if pixels <= most:
        return
    if len(named) == 1:
        name, width, height = named[0]
        what = f"{name} has {width} x {height} pixels ({_millions(pixels)} million)"
    else:
        what = f"The {len(named)} pictures and masks of this request have {_millions(pixels)} million pixels together"
    raise InvalidRequest(
        f"{what}; this machine has memory for {_millions(most)} million at a time now. Scale down first."
    )


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:.3g}" if pixels < 1e9 else f"{pixels / 1e6:.0f}"
