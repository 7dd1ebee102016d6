"""Many small pieces of work on all cores at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Cores:
    """Threads that compute alone: while one copies or runs Python, another multiplies, and none waits for the others at
    the end of every operation. They stay, with the buffers that the libraries below keep for each.

    On other devices than a CPU the caller's thread does it all.
    """

    def __init__(self, device: torch.device):
        self.threads = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """work(item) for each item, without gradients. Returns: the results, in no order."""
        rest = iter(items)

        def work_off(_: int) -> list[Result]:
            with torch.no_grad():
                return [work(item) for item in rest]

        if self.threads == 1:
            return work_off(0)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "core")
        before = torch.get_num_threads()
        try:
            return [result for results in self._pool.map(alone(work_off), range(self.threads)) for result in results]
        finally:
            torch.set_num_threads(before)  # MKL has one number for all threads


def alone(work: Callable[[Item], Result]) -> Callable[[Item], Result]:
    """The same work, each operation on the calling thread only."""

    def wrapped(item: Item) -> Result:
        torch.set_num_threads(1)
        return work(item)

    return wrapped
