"""Requests that wait for jobs have threads of their own, and an end to their number."""

from __future__ import annotations

import threading

import anyio
import pytest

from webui.api.waiting import Waiters
from webui.jobs.errors import TooManyJobs


def test_functions_run_at_once_in_other_threads() -> None:
    meeting = threading.Barrier(3, timeout=60)

    async def main() -> list[int]:
        waiters, found = Waiters(3), []

        async def one() -> None:
            await waiters.run(meeting.wait)
            found.append(await waiters.run(threading.get_ident))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)
        return found

    idents = anyio.run(main)
    assert len(idents) == 3
    assert threading.get_ident() not in idents


def test_one_too_many_is_told_to_come_back() -> None:
    release = threading.Event()

    async def main() -> None:
        waiters = Waiters(1)
        async with anyio.create_task_group() as group:
            group.start_soon(waiters.run, release.wait)
            await anyio.sleep(0.1)
            try:
                with pytest.raises(TooManyJobs, match="1 requests"):
                    await waiters.run(threading.get_ident)
            finally:
                release.set()
        assert await waiters.run(threading.get_ident)

    anyio.run(main)


def test_a_burst_is_counted_before_its_threads_are() -> None:
    release = threading.Event()

    async def main() -> list[str]:
        waiters, ends = Waiters(3), []

        async def one() -> None:
            try:
                await waiters.run(release.wait)
                ends.append("done")
            except TooManyJobs:
                ends.append("refused")

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(one)
            with anyio.move_on_after(60):
                while len(ends) < 47:
                    await anyio.sleep(0.01)
            release.set()
        return ends

    ends = anyio.run(main)
    assert ends == ["refused"] * 47 + ["done"] * 3
