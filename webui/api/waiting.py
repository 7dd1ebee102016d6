"""Waiting for jobs without standing in the way of other requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio

from webui.jobs.errors import TooManyJobs

WAITERS = 256

_Result = TypeVar("_Result")


class Waiters:
    """Threads for handlers that wait for a job, apart from those that serve files and quick questions.

    A client that goes away leaves its job running; the thread ends with the job.
    """

    def __init__(self, count: int = WAITERS):
        self._limiter = anyio.CapacityLimiter(count)
        self._count = count
        self._waiting = 0  # counted here, since the limiter doesn't know yet of those who are about to ask it

    async def run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """`function(*arguments)`, called in one of the threads. Raises: TooManyJobs when all of them wait."""
        if self._waiting >= self._count:
            raise TooManyJobs(f"{self._count} requests are waiting already; try again later.")
        self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter)
        finally:
            self._waiting -= 1
