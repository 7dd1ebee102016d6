"""Many small pieces of work on all cores at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_every_core(device: torch.device, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """work(item) for each item, without gradients. Returns: the results, in no order.

    On a CPU the threads take the items between them and each computes alone: while one copies or runs Python, another
    multiplies, and none waits for the others at the end of every operation. Elsewhere one thread does it all.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    rest = iter(items)

    def work_off(_: int) -> list[Result]:
        with torch.no_grad():
            return [work(item) for item in rest]

    if threads == 1:
        return work_off(0)
    try:
        with ThreadPoolExecutor(threads, "core", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return [result for results in pool.map(work_off, range(threads)) for result in results]
    finally:
        torch.set_num_threads(threads)  # MKL has one number for all threads
