"""How much one client may ask for at once, so that the others are still answered."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from webui.api.guard.asgi import Refusal

MAX_AT_ONCE: Final = 800
"""Requests of one address that are being answered or wait for their picture."""
RATE: Final = 500.0
"""Requests a second that one address may send on and on; BURST more in between."""
BURST: Final = 2000.0
REMEMBERED: Final = 10_000


class Crowds:
    """Counts requests by the address they come from."""

    def __init__(
        self,
        max_at_once: int = MAX_AT_ONCE,
        rate: float = RATE,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._max_at_once = max_at_once
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @contextmanager
    def place_for(self, address: str) -> Iterator[None]:
        """Hold a place while a request is answered. Raises: Refusal 429 when this address has too many."""
        self._take(address)
        if self._open[address] >= self._max_at_once:
            raise Refusal(429, f"{self._max_at_once} requests from here are being answered; wait for some of them.")
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def _take(self, address: str) -> None:
        now = self._clock()
        left, since = self._left.pop(address, (self._burst, now))
        left = min(left + (now - since) * self._rate, self._burst)
        self._left[address] = (max(left - 1, 0), now)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        if left < 1:
            raise Refusal(429, f"More than {self._rate:.0f} requests a second from here; ask less often.")
