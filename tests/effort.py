"""How much work something is, for tests of what must stay linear or be refused at once."""

from __future__ import annotations

import time
from collections.abc import Callable

ENOUGH = 0.5


def cpu_seconds(work: Callable[[], object], enough: float = ENOUGH, tries: int = 8) -> float:
    """The least CPU time of a few tries, which what else the machine does hardly changes.

    Ends with the first try below `enough`: quadratic work on 100,000 characters never gets there.
    """
    least = float("inf")
    for _ in range(tries):
        start = time.thread_time()  # other threads, of servers that tests left running, are none of its business
        work()
        least = min(least, time.thread_time() - start)
        if least < enough:
            break
    return least
