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

    async def run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """`function(*arguments)`, called in one of the threads. Raises: TooManyJobs when all of them wait."""
        if self._limiter.available_tokens < 1:
            raise TooManyJobs(f"{int(self._limiter.total_tokens)} requests are waiting already; try again later.")
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._limiter)
